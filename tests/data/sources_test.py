"""Opening `data.root`: layouts of folders and their splits."""

import shutil

import numpy as np
import pytest

from jaxdeblur.data.sources import DataOptions, name_data_set, open_sources
from jaxdeblur.errors import InputError
from tests.helpers.images import save_pair, write_pairs


def options(root, *, splits="official", validation_sequences=("scene_v",), skip_invalid=False):
    return DataOptions(root, "blur", splits, validation_sequences, skip_invalid)


def open_all(root, *, crop=0, resize=0, **more):
    return open_sources(options(root, **more), resize=resize, resize_filter="bicubic", crop=crop)


def test_whole_sequences_are_held_out(tiny_gopro):
    sources = open_all(tiny_gopro, validation_sequences=("scene_v", "scene_b"))
    assert {sequence for sequence, _ in sources["train"].names} == {"scene_a"}
    assert [sequence for sequence, _ in sources["validation"].names] == ["scene_b"] * 2 + ["scene_v"] * 3
    assert [sequence for sequence, _ in sources["test"].names] == ["scene_t"] * 3 + ["scene_u"] * 2
    assert name_data_set(tiny_gopro, sources["train"]) == "GOPRO_Large"


def test_validation_folder_is_used(tiny_gopro, capsys):
    """So synthetic blur and own pairs need no field but data.root."""
    shutil.move(tiny_gopro / "train" / "scene_b", tiny_gopro / "validation" / "scene_b")
    sources = open_all(tiny_gopro, validation_sequences=("GOPR0477_11_00",))
    assert [sequence for sequence, _ in sources["train"].names] == ["scene_a"] * 4 + ["scene_v"] * 3
    assert [sequence for sequence, _ in sources["validation"].names] == ["scene_b"] * 2
    assert "data.validation_sequences is ignored" in capsys.readouterr().err


def test_original_needs_all_of_gopro(tiny_gopro):
    with pytest.raises(InputError, match=r"'original' divides the 1,111 test pairs .*; found 5 test pairs"):
        open_all(tiny_gopro, splits="original")


def test_pairs_without_splits_are_drawn_by_sequence(tmp_path):
    for sequence in range(20):
        for frame in range(2):
            save_pair(tmp_path, f"s{sequence:02d}/{frame}.png")
    sources = open_all(tmp_path, splits="drawn")
    parts = {split: {sequence for sequence, _ in source.names} for split, source in sources.items()}
    assert {split: len(found) for split, found in parts.items()} == {"train": 16, "validation": 2, "test": 2}
    assert len(set.union(*parts.values())) == 20
    assert [source.names for source in open_all(tmp_path, splits="drawn").values()] == [
        source.names for source in sources.values()
    ]
    # The two with the smallest SHA-256, then the next two: the same on every machine.
    assert (parts["test"], parts["validation"]) == ({"s07", "s13"}, {"s08", "s15"})


def test_flat_pairs_are_drawn_individually_with_a_message(tmp_path, capsys):
    for frame in range(6):
        save_pair(tmp_path, f"{frame}.png")
    sources = open_all(tmp_path, splits="drawn")
    assert [len(source) for source in sources.values()] == [4, 1, 1]
    with pytest.raises(InputError, match=r"all 6 pairs are smaller than the crop of 100 .*stages\[i\].crop"):
        open_all(tmp_path, splits="drawn", crop=100)
    assert "scenes may be in several splits" in capsys.readouterr().err
    for frame in range(2, 6):
        (tmp_path / "blur" / f"{frame}.png").unlink()
        (tmp_path / "sharp" / f"{frame}.png").unlink()
    with pytest.raises(InputError, match=r"needs at least 3 pairs; found 2") as error:
        open_all(tmp_path, splits="drawn")
    assert error.value.code == "too-few-pairs"


def sequences_of(sources):
    return {split: sorted({sequence for sequence, _ in source.names}) for split, source in sources.items()}


def test_auto_uses_existing_splits(tiny_gopro, capsys):
    """A missing `validation` is the named sequences, or drawn; a missing `test` is drawn."""
    rest = {"train": ["scene_a", "scene_b"], "test": ["scene_t", "scene_u"]}
    assert sequences_of(open_all(tiny_gopro, splits="auto")) == {**rest, "validation": ["scene_v"]}
    assert "drawn" not in capsys.readouterr().err
    drawn = sequences_of(open_all(tiny_gopro, splits="auto", validation_sequences=()))
    # scene_b has the smallest SHA-256 of the three names.
    assert drawn == {"train": ["scene_a", "scene_v"], "validation": ["scene_b"], "test": ["scene_t", "scene_u"]}
    assert "has no validation split; 2 pairs were drawn for it, from scene_b" in capsys.readouterr().err
    shutil.rmtree(tiny_gopro / "test")
    drawn = sequences_of(open_all(tiny_gopro, splits="auto", validation_sequences=()))
    assert drawn == {"train": ["scene_v"], "test": ["scene_b"], "validation": ["scene_a"]}
    (tiny_gopro / "train" / "scene_v").rename(tiny_gopro / "scene_v")
    (tiny_gopro / "validation").mkdir()
    (tiny_gopro / "scene_v").rename(tiny_gopro / "validation" / "scene_v")
    drawn = sequences_of(open_all(tiny_gopro, splits="auto", validation_sequences=("scene_x",)))
    assert drawn == {"train": ["scene_a"], "test": ["scene_b"], "validation": ["scene_v"]}


def test_auto_draws_all_splits_of_pairs_without_any(tmp_path):
    for frame in range(6):
        save_pair(tmp_path, f"{frame}.png")
    found, drawn = (open_all(tmp_path, splits=rule, validation_sequences=()) for rule in ("auto", "drawn"))
    assert {split: source.names for split, source in found.items()} == {
        split: source.names for split, source in drawn.items()
    }


def test_auto_needs_pairs_to_train_on(tiny_gopro, tmp_path):
    shutil.rmtree(tiny_gopro / "train")
    with pytest.raises(InputError) as error:
        open_all(tiny_gopro, splits="auto")
    assert error.value.code == "no-split-folder"


def test_skipped_pairs_belong_to_their_split(tiny_gopro):
    for name in ("train/scene_a/blur/000001", "train/scene_a/sharp/000002", "train/scene_v/sharp/000003"):
        (tiny_gopro / f"{name}.png").write_bytes(b"")
    shutil.rmtree(tiny_gopro / "test" / "scene_u" / "blur")
    sources = open_all(tiny_gopro, skip_invalid=True)
    assert sources["train"].skipped == [("scene_a", "000001"), ("scene_a", "000002")]
    assert sources["validation"].skipped == [("scene_v", "000003")]
    assert sources["test"].skipped == [("scene_u", "000001"), ("scene_u", "000002")]


def test_missing_split_is_named(tiny_gopro):
    shutil.rmtree(tiny_gopro / "test")
    with pytest.raises(InputError, match=r"GOPRO_Large has no folder test \(found: train\).*Add it\."):
        open_all(tiny_gopro)


def test_folder_inside_prepared_data_names_the_right_one(tmp_path):
    inside = tmp_path / "data" / "gopro_large" / "blur_256" / "1.0.0"
    inside.mkdir(parents=True)
    for folder in (inside, inside.parent, inside.parent.parent):
        with pytest.raises(InputError, match=r"lies inside prepared data. Pass --config.data.root=.*/data\."):
            open_all(folder)


def test_wrong_folders_are_named(tiny_gopro, tmp_path):
    with pytest.raises(InputError, match=r"nowhere is not a folder; .*Pass --config.data.root"):
        open_all(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"has no folder train and no test \(found: GOPRO_Large\).*data.splits=drawn"):
        open_all(tmp_path)
    with pytest.raises(InputError, match=r"'drawn', but .* has splits \(test, train\)"):
        open_all(tiny_gopro, splits="drawn")


def test_problems_of_all_splits_are_one_error(tiny_gopro):
    (tiny_gopro / "train" / "scene_a" / "blur" / "000001.png").unlink()
    (tiny_gopro / "test" / "scene_t" / "sharp" / "000002.png").write_bytes(b"")
    with pytest.raises(InputError) as error:
        open_all(tiny_gopro)
    for line in ("train/scene_a/sharp/000001.png: unpaired", "test/scene_t/sharp/000002.png: cannot be read"):
        assert line in str(error.value)


def test_only_training_images_must_fit_the_crop(tiny_gopro):
    write_pairs(tiny_gopro, "train", "scene_small", 1, side=20)
    write_pairs(tiny_gopro, "test", "scene_small", 1, side=20)
    with pytest.raises(InputError, match=r"1 problem\(s\).*\n.*scene_small.*20x20 pixels, smaller than the crop of 24"):
        open_all(tiny_gopro, crop=24)
    sources = open_all(tiny_gopro, crop=24, skip_invalid=True)
    assert (20, 20) not in sources["train"].sizes
    assert len(sources["train"].skipped) == 1
    assert (20, 20) in sources["test"].sizes
    assert (20, 20) in open_all(tiny_gopro, crop=24, resize=32)["train"].sizes


def test_sources_read_windows(tiny_gopro):
    source = open_all(tiny_gopro)["train"]
    window = source.read(3, np.s_[2:20, 5:9])
    np.testing.assert_array_equal(window["sharp"], source[3]["sharp"][2:20, 5:9])
    assert (window["sequence"], window["frame"]) == ("scene_a", "000004")
