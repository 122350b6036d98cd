"""Pairs on disk: order, held-out sequences, and every way in which a folder can be wrong."""

import shutil

import numpy as np
import pytest
from conftest import write_pairs
from PIL import Image

from jaxdeblur.data.folders import FolderSource, find_pairs, hold_out, read_image
from jaxdeblur.errors import InputError


def test_pairs_come_in_official_order_with_their_images(tiny_gopro):
    pairs = find_pairs(tiny_gopro, "train", "blur")
    names = [(pair.sequence, pair.frame) for pair in pairs]
    assert names == [("scene_a", f"00000{i}") for i in (1, 2, 3, 4)] + [
        *(("scene_b", f"00000{i}") for i in (1, 2)),
        *(("scene_v", f"00000{i}") for i in (1, 2, 3)),
    ]
    pair = FolderSource(pairs)[5]
    folder = tiny_gopro / "train" / "scene_b"
    assert (pair["sequence"], pair["frame"]) == ("scene_b", "000002")
    np.testing.assert_array_equal(pair["blur"], np.asarray(Image.open(folder / "blur" / "000002.png")))
    np.testing.assert_array_equal(pair["sharp"], np.asarray(Image.open(folder / "sharp" / "000002.png")))
    assert pairs[5].size == (32, 32)


def test_blur_variant_is_taken_by_name_and_never_replaced(tiny_gopro):
    with pytest.raises(InputError, match=r"scene_a: no folder `blur_gamma` \(found: blur, sharp\)"):
        find_pairs(tiny_gopro, "train", "blur_gamma")
    for sequence in (tiny_gopro / "train").iterdir():
        shutil.copytree(sequence / "sharp", sequence / "blur_gamma")
    pair = FolderSource(find_pairs(tiny_gopro, "train", "blur_gamma"))[0]
    np.testing.assert_array_equal(pair["blur"], pair["sharp"])


def test_whole_sequences_are_held_out(tiny_gopro):
    training, validation = hold_out(find_pairs(tiny_gopro, "train", "blur"), ("scene_v", "scene_b"))
    assert {pair.sequence for pair in training} == {"scene_a"}
    assert [pair.sequence for pair in validation] == ["scene_b"] * 2 + ["scene_v"] * 3


@pytest.mark.parametrize(
    ("sequences", "words"),
    [
        (("nowhere",), "nowhere; found scene_a, scene_b, scene_v in train/"),
        (("scene_a", "scene_b", "scene_v"), "all sequences of train/ are held out"),
    ],
)
def test_holding_out_what_is_not_there_or_all_is_refused(tiny_gopro, sequences, words):
    with pytest.raises(InputError, match=words):
        hold_out(find_pairs(tiny_gopro, "train", "blur"), sequences)


def test_wrong_folders_are_named(tiny_gopro, tmp_path):
    with pytest.raises(InputError, match=r"nowhere is no folder; .*Pass --config.data.root"):
        find_pairs(tmp_path / "nowhere", "train", "blur")
    with pytest.raises(InputError, match=r"has no folder `train` \(found: GOPRO_Large\)"):
        find_pairs(tmp_path, "train", "blur")
    shutil.rmtree(tiny_gopro / "train")
    (tiny_gopro / "train").mkdir()
    with pytest.raises(InputError, match=r"no pairs found; expected <sequence>/blur/<frame>.png"):
        find_pairs(tiny_gopro, "train", "blur")


def test_all_bad_pairs_are_listed_at_once(tiny_gopro):
    scene = tiny_gopro / "train" / "scene_a"
    (scene / "sharp" / "000001.png").unlink()
    (scene / "blur" / "000002.png").unlink()
    whole = (scene / "blur" / "000003.png").read_bytes()
    (scene / "blur" / "000003.png").write_bytes(whole[: len(whole) // 2])
    Image.new("RGB", (30, 20)).save(scene / "sharp" / "000004.png")
    other = tiny_gopro / "train" / "scene_b" / "blur"
    (other / "000001.png").write_text("no image")
    (other / "000002.png").write_bytes(b"")
    with pytest.raises(InputError) as error:
        find_pairs(tiny_gopro, "train", "blur")
    for words in (
        "6 problem(s)",
        f"{scene}/blur/000001.png: its twin {scene}/sharp/000001.png is missing",
        f"{scene}/sharp/000002.png: its twin {scene}/blur/000002.png is missing",
        f"{scene}/blur/000003.png: cut short",
        f"{scene}/blur/000004.png: 32x32 pixels, but its twin {scene}/sharp/000004.png has 30x20",
        f"{other}/000001.png: cannot be read as an image",
        f"{other}/000002.png: cannot be read as an image",
    ):
        assert words in str(error.value)


def test_damage_inside_an_image_is_named_when_it_is_read(tiny_gopro):
    path = tiny_gopro / "train" / "scene_a" / "blur" / "000001.png"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"blur/000001.png: cannot be read as an image .*Put a good copy"):
        read_image(path)


def test_grey_images_become_rgb(tmp_path):
    Image.fromarray(np.arange(4, dtype=np.uint8).reshape(2, 2)).save(tmp_path / "grey.png")
    np.testing.assert_array_equal(read_image(tmp_path / "grey.png")[1, 0], [2, 2, 2])


def test_fingerprint_knows_the_data_not_the_place(tiny_gopro, tmp_path):
    here = FolderSource(find_pairs(tiny_gopro, "train", "blur")).fingerprint()
    moved = tmp_path / "moved"
    shutil.move(tiny_gopro, moved)
    assert FolderSource(find_pairs(moved, "train", "blur")).fingerprint() == here
    write_pairs(moved, "train", "scene_a", 4, seed=1)
    assert FolderSource(find_pairs(moved, "train", "blur")).fingerprint() != here


def test_real_frames_are_found_and_read(real_gopro):
    source = FolderSource(find_pairs(real_gopro, "test", "blur"))
    pair = source[0]
    assert pair["blur"].shape == pair["sharp"].shape == (720, 1280, 3)
    assert pair["blur"].dtype == np.uint8


def test_images_of_other_kinds_are_refused(tiny_gopro):
    """16-bit values would be cut to white, transparency dropped; neither goes unsaid."""
    folder = tiny_gopro / "test" / "scene_u" / "blur"
    Image.fromarray(np.full((32, 32), 4000, np.uint16)).save(folder / "000001.png")
    Image.new("RGB", (32, 32)).save(folder / "000002.png", format="JPEG")
    Image.new("RGBA", (32, 32)).save(tiny_gopro / "test" / "scene_t" / "blur" / "000001.png")
    with pytest.raises(InputError) as error:
        find_pairs(tiny_gopro, "test", "blur")
    for words in ("PNG of mode I;16, expected 8-bit RGB or grey PNG", "JPEG of mode RGB", "PNG of mode RGBA"):
        assert words in str(error.value)
