"""Pairs of image files: order, layouts, formats and fingerprints (invalid pairs: invalid_pairs_test)."""

import os
import shutil

import numpy as np
import pytest
from PIL import Image

from jaxdeblur.data.pair_source import fingerprint
from jaxdeblur.data.paired_folders import open_folder
from jaxdeblur.errors import InputError
from jaxdeblur.images.decode import read_image
from tests.helpers.images import save_noise, save_pair, write_pairs


def test_pairs_are_in_official_order(tiny_gopro):
    source = open_folder(tiny_gopro / "train", "blur", skip_invalid=False)
    assert source.names == [("scene_a", f"00000{i}") for i in (1, 2, 3, 4)] + [
        *(("scene_b", f"00000{i}") for i in (1, 2)),
        *(("scene_v", f"00000{i}") for i in (1, 2, 3)),
    ]
    pair = source[5]
    folder = tiny_gopro / "train" / "scene_b"
    assert (pair["sequence"], pair["frame"]) == ("scene_b", "000002")
    np.testing.assert_array_equal(pair["blur"], np.asarray(Image.open(folder / "blur" / "000002.png")))
    np.testing.assert_array_equal(pair["sharp"], np.asarray(Image.open(folder / "sharp" / "000002.png")))
    assert source.sizes[5] == (32, 32)
    window = source.read(5, np.s_[4:20, 7:31])
    np.testing.assert_array_equal(window["blur"], pair["blur"][4:20, 7:31])
    np.testing.assert_array_equal(window["sharp"], pair["sharp"][4:20, 7:31])


def test_blur_variant_is_selected_by_name(tiny_gopro):
    with pytest.raises(InputError, match=r"scene_a: no folder `blur_gamma` \(found: blur, sharp\)"):
        open_folder(tiny_gopro / "train", "blur_gamma", skip_invalid=False)
    for sequence in (tiny_gopro / "train").iterdir():
        shutil.copytree(sequence / "sharp", sequence / "blur_gamma")
    pair = open_folder(tiny_gopro / "train", "blur_gamma", skip_invalid=False)[0]
    np.testing.assert_array_equal(pair["blur"], pair["sharp"])


def test_folders_without_pairs_are_named(tiny_gopro, tmp_path):
    with pytest.raises(InputError, match=r"nowhere/train is not a folder; expected one with image pairs in `blur`"):
        open_folder(tmp_path / "nowhere" / "train", "blur", skip_invalid=False)
    shutil.rmtree(tiny_gopro / "train")
    (tiny_gopro / "train").mkdir()
    with pytest.raises(InputError, match=r"no pairs found; expected <sequence>/blur/<frame> and .* Found: nothing"):
        open_folder(tiny_gopro / "train", "blur", skip_invalid=False)


def test_empty_split_names_expected_and_found_files(tmp_path, capsys):
    for name in ("scene/blur/1.bmp", "scene/sharp/1.bmp"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    expected = r"no pairs found; .*suffixes .png, .jpg.* Found: scene; files without an image suffix: 2 .bmp\."
    with pytest.raises(InputError, match=expected):
        open_folder(tmp_path, "blur", skip_invalid=True)
    assert "ignored 2 file(s) without an image suffix (.bmp)" in capsys.readouterr().err
    with pytest.raises(InputError, match="nowhere is not a folder"):
        open_folder(tmp_path / "nowhere", "blur", skip_invalid=False)


def test_formats_and_sizes_may_differ_between_pairs(tmp_path):
    """Two folders with subfolders; only the images of one pair must have the same size."""
    for frame, suffixes, size in (
        ("b/2", (".PNG", ".tif"), (20, 24)),
        ("b/10", (".webp", ".TIFF"), (30, 18)),
        ("a/1", (".JPG", ".jpeg"), (17, 19)),
    ):
        for kind, suffix in zip(("blur", "sharp"), suffixes, strict=True):
            save_noise(tmp_path / kind / (frame + suffix), size, **({"lossless": True} if suffix == ".webp" else {}))
    source = open_folder(tmp_path, "blur", skip_invalid=False, min_side=17)
    assert source.names == [("a", "1"), ("b", "10"), ("b", "2")]
    assert source.sizes == [(19, 17), (18, 30), (24, 20)]
    assert source.skipped == []
    for i in (1, 2):
        assert source[i]["blur"].shape[:2] == source.sizes[i]
        np.testing.assert_array_equal(source[i]["blur"], source[i]["sharp"])
    some = source.select(lambda sequence, frame: (sequence, frame) in (source.names[0], source.names[2]))
    assert (some.names, some.sizes) == ([("a", "1"), ("b", "2")], [(19, 17), (24, 20)])
    assert some.digests == [source.digests[0], source.digests[2]]
    np.testing.assert_array_equal(some[1]["sharp"], source[2]["sharp"])


def test_orientation_is_applied_to_both_images(tmp_path):
    turned = Image.Exif()
    turned[274] = 8
    for kind in ("blur", "sharp"):
        save_noise(tmp_path / kind / "1.png", (20, 24), exif=turned)
    source = open_folder(tmp_path, "blur", skip_invalid=False)
    assert source.sizes == [(20, 24)]
    stored = np.asarray(Image.open(tmp_path / "blur" / "1.png"))
    np.testing.assert_array_equal(source[0]["blur"], np.rot90(stored))


def test_files_changed_after_the_scan_are_named(tmp_path):
    blur, sharp = save_pair(tmp_path)
    source = open_folder(tmp_path, "blur", skip_invalid=False)
    save_noise(sharp, (6, 5))
    with pytest.raises(InputError, match=r"sharp/1.png: 6x5 pixels, but 20x24 at the start"):
        source[0]
    blur.unlink()
    with pytest.raises(InputError, match=r"blur/1.png: cannot be read \(No such file or directory\)"):
        source[0]


def test_corrupt_image_is_named_when_read(tiny_gopro):
    path = tiny_gopro / "train" / "scene_a" / "blur" / "000001.png"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"blur/000001.png: cannot be read as an image .*Replace it with a good copy"):
        read_image(path)


def test_grey_images_become_rgb(tmp_path):
    Image.fromarray(np.arange(4, dtype=np.uint8).reshape(2, 2)).save(tmp_path / "grey.png")
    np.testing.assert_array_equal(read_image(tmp_path / "grey.png")[1, 0], [2, 2, 2])


def test_fingerprint_depends_on_content_only(tiny_gopro, tmp_path):
    here = open_folder(tiny_gopro / "train", "blur", skip_invalid=False).fingerprint()
    moved = tmp_path / "moved"
    shutil.move(tiny_gopro, moved)
    assert open_folder(moved / "train", "blur", skip_invalid=False).fingerprint() == here
    os.utime(moved / "train" / "scene_a" / "blur" / "000001.png")
    assert open_folder(moved / "train", "blur", skip_invalid=False).fingerprint() == here
    write_pairs(moved, "train", "scene_a", 4, seed=1)
    assert open_folder(moved / "train", "blur", skip_invalid=False).fingerprint() != here


def test_fingerprint_is_equal_in_another_layout(tiny_gopro, tmp_path):
    for path in (tiny_gopro / "train").glob("*/*/*.png"):
        other = tmp_path / "two" / path.parent.name / path.parent.parent.name / path.name
        other.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, other)
    source = open_folder(tmp_path / "two", "blur", skip_invalid=False)
    assert source.fingerprint() == open_folder(tiny_gopro / "train", "blur", skip_invalid=False).fingerprint()
    assert source.fingerprint() == fingerprint(source.names, source.digests)
    swapped = [(sharp, blur) for blur, sharp in source.digests]
    assert fingerprint(source.names, swapped) != source.fingerprint()
    renamed = [("other", frame) for _, frame in source.names]
    assert fingerprint(renamed, source.digests) != source.fingerprint()


def test_real_frames_are_read(real_gopro):
    source = open_folder(real_gopro / "test", "blur", skip_invalid=False)
    pair = source[0]
    assert pair["blur"].shape == pair["sharp"].shape == (720, 1280, 3)
    assert pair["blur"].dtype == np.uint8
