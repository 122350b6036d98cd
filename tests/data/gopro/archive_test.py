"""Contents of GOPRO_Large's archive: pairs, missing and unexpected files."""

import shutil
import zipfile

import numpy as np
import pytest

from jaxdeblur.data.gopro.archive import NUM_PAIRS, SEQUENCES, Archive, plan_pairs
from jaxdeblur.errors import InputError


def write_whole_listing(root, *, without=()):
    """All 3,214 pairs as empty files, to be listed and counted."""
    for split, sequences in SEQUENCES.items():
        counts = np.full(len(sequences), NUM_PAIRS[split] // len(sequences))
        counts[0] += NUM_PAIRS[split] - counts.sum()
        for sequence, count in zip(sequences, counts, strict=True):
            for variant in ("blur", "sharp"):
                folder = root / split / sequence / variant
                folder.mkdir(parents=True)
                for frame in range(1, count + 1):
                    if (sequence, frame) not in without:
                        (folder / f"{frame:06d}.png").touch()


def test_whole_data_set_and_parts_are_distinguished(tmp_path):
    write_whole_listing(tmp_path / "whole")
    pairs, missing = plan_pairs(Archive(tmp_path / "whole"), "blur", partial=False)
    assert {split: len(found) for split, found in pairs.items()} == {"train": 2103, "test": 1111}
    assert missing == plan_pairs(Archive(tmp_path / "whole"), "blur", partial=True)[1] == []
    names = [(pair.sequence, pair.frame) for pair in pairs["test"]]
    assert names == sorted(names)
    assert [len(sequences) for sequences in SEQUENCES.values()] == [22, 11]


def test_missing_files_are_listed(tmp_path):
    write_whole_listing(tmp_path / "part", without=[("GOPR0372_07_01", 5), ("GOPR0372_07_01", 6)])
    shutil.rmtree(tmp_path / "part" / "test" / "GOPR0854_11_00")
    (tmp_path / "part" / "test" / "GOPR9999_00_00" / "blur").mkdir(parents=True)
    (tmp_path / "part" / "test" / "GOPR9999_00_00" / "blur" / "1.png").touch()
    with pytest.raises(InputError) as error:
        plan_pairs(Archive(tmp_path / "part"), "blur", partial=False)
    for line in (
        "train: 2,101 pairs, expected 2,103",
        "train/GOPR0372_07_01: 2 frame(s) missing in between: 000005, 000006",
        "test: 1 of 11 sequences missing: GOPR0854_11_00",
        "test: 1,010 pairs, expected 1,111",
        "sequences not in GOPRO_Large: GOPR9999_00_00",
        "pass --partial",
    ):
        assert line in str(error.value)
    pairs, missing = plan_pairs(Archive(tmp_path / "part"), "blur", partial=True)
    assert (len(pairs["train"]), len(pairs["test"])) == (2101, 1010)
    assert "train: 2,101 pairs, expected 2,103" in missing


def test_part_needs_complete_pairs_and_both_splits(gopro_part):
    (gopro_part / "train" / "GOPR0372_07_00" / "blur" / "000002.png").unlink()
    shutil.rmtree(gopro_part / "test")
    with pytest.raises(InputError) as error:
        plan_pairs(Archive(gopro_part), "blur", partial=True)
    for line in ("train/GOPR0372_07_00: sharp/000002.png is unpaired, none in blur/", "no pairs in test"):
        assert line in str(error.value)


def test_duplicate_frame_is_named(gopro_part):
    shutil.copytree(gopro_part / "train" / "GOPR0372_07_00", gopro_part / "again" / "train" / "GOPR0372_07_00")
    with pytest.raises(InputError, match=r"6 problem(.|\n)*: the same frame as"):
        plan_pairs(Archive(gopro_part), "blur", partial=True)


def test_zip_names_of_other_systems(gopro_part, tmp_path):
    """Capital letters, and backslashes from Windows."""
    with zipfile.ZipFile(tmp_path / "windows.zip", "w") as archive:
        for file in gopro_part.rglob("*.png"):
            parts = file.relative_to(gopro_part).with_suffix(".PNG").parts
            archive.writestr("\\".join(["GOPRO", parts[0].capitalize(), parts[1], parts[2].upper(), parts[3]]), b"")
    pairs, _ = plan_pairs(Archive(tmp_path / "windows.zip"), "blur_gamma", partial=True)
    assert {split: len(found) for split, found in pairs.items()} == {"train": 4, "test": 4}


def test_folders_may_be_links(gopro_part, tmp_path):
    linked = tmp_path / "linked"
    linked.mkdir()
    for split in ("train", "test"):
        (linked / split).symlink_to(gopro_part / split)
    (linked / "loop").symlink_to(linked)
    pairs, _ = plan_pairs(Archive(linked), "blur", partial=True)
    assert len(pairs["train"]) == len(pairs["test"]) == 4


def test_unexpected_files_are_named(tmp_path):
    with zipfile.ZipFile(tmp_path / "outer.zip", "w") as archive:
        archive.writestr("GOPRO_Large.zip", b"")
    with pytest.raises(InputError, match=r"no pairs in train and test: expected .*; found GOPRO_Large.zip"):
        plan_pairs(Archive(tmp_path / "outer.zip"), "blur", partial=False)
