"""The TFDS builder: stored images equal the published ones; nothing is left incomplete."""

import hashlib
import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from array_record.python.array_record_module import ArrayRecordWriter
from PIL import Image

from jaxdeblur.data.array_records import open_folder_of_records
from jaxdeblur.data.gopro.archive import SEQUENCES, Archive
from jaxdeblur.data.gopro.builder import GoproLarge
from jaxdeblur.data.gopro.storage import BYTES_PER_PAIR, cut_tiles
from jaxdeblur.errors import InputError
from jaxdeblur.files import exclusive_lock
from tests.helpers.images import write_pairs


def zip_folder(folder, path):
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*.png"), reverse=True):  # official order is not the zip's
            archive.write(file, f"GOPRO_Large/{file.relative_to(folder)}")
        archive.writestr("__MACOSX/GOPRO_Large/train/GOPR0372_07_00/blur/000001.png", b"not an image")
        archive.writestr("GOPRO_Large/train/GOPR0372_07_00/blur/._000001.png", b"not an image")
    return path


def prepare(source, data_dir, config, *, partial=True):
    builder = GoproLarge(config=config, data_dir=data_dir, source=source, partial=partial)
    builder.download_and_prepare()
    return builder


def pixels(root, split, sequence, variant, frame):
    return np.asarray(Image.open(root / split / sequence / variant / f"{frame}.png"))


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("blur", ["blur", "blur_gamma"])
def test_full_frames_equal_the_published_in_official_order(gopro_part, tmp_path, zipped, blur):
    source = zip_folder(gopro_part, tmp_path / "GOPRO_Large.zip") if zipped else gopro_part
    records = prepare(source, tmp_path / "data", f"{blur}_full").as_data_source("train")
    expected = [(sequence, f"00000{i}") for sequence in SEQUENCES["train"][:2] for i in (1, 2)]
    assert [(record["sequence"].decode(), record["frame"].decode()) for record in records] == expected
    assert [record["position"] for record in records] == [0, 1, 2, 3]
    for record, (sequence, frame) in zip(records, expected, strict=True):
        for key, variant in (("blur", blur), ("sharp", "sharp")):
            np.testing.assert_array_equal(record[key], pixels(gopro_part, "train", sequence, variant, frame))


def test_resized_frames_equal_pillows_bicubic(gopro_part, tmp_path):
    records = prepare(gopro_part, tmp_path / "data", "blur_256").as_data_source("test")
    path = gopro_part / "test" / SEQUENCES["test"][1] / "sharp" / "000001.png"
    resized = np.asarray(Image.open(path).resize((256, 256), Image.Resampling.BICUBIC))
    np.testing.assert_array_equal(records[2]["sharp"], resized)


def test_tiles_make_up_the_frame(tmp_path):
    root = tmp_path / "GOPRO_Large"
    rng, frame = np.random.default_rng(0), {}
    for split in SEQUENCES:
        for variant in ("blur", "sharp"):
            frame[split, variant] = rng.integers(0, 256, (150, 260, 3), np.uint8)
            folder = root / split / SEQUENCES[split][0] / variant
            folder.mkdir(parents=True)
            Image.fromarray(frame[split, variant]).save(folder / "000001.png")
    records = prepare(root, tmp_path / "data", "blur_tiles").as_data_source("train")
    assembled = {key: np.zeros((150, 260, 3), np.uint8) for key in ("blur", "sharp")}
    for record in records:
        for key, image in assembled.items():
            tile = record[key]
            image[record["top"] : record["top"] + tile.shape[0], record["left"] : record["left"] + tile.shape[1]] = tile
    assert len(records) == len(cut_tiles(150, 260)) == 6
    for key, image in assembled.items():
        np.testing.assert_array_equal(image, frame["train", key])


def test_tfds_finds_it_by_name_in_its_manual_directory(gopro_part, tmp_path):
    manual = tmp_path / "data" / "downloads" / "manual"
    manual.mkdir(parents=True)
    zip_folder(gopro_part, manual / "GOPRO_Large.zip")
    builder = tfds.builder("gopro_large/blur_256", data_dir=tmp_path / "data", partial=True)
    builder.download_and_prepare()
    records = tfds.data_source("gopro_large/blur_256", split="test[1:3]", data_dir=tmp_path / "data")
    assert [record["position"] for record in records] == [1, 2]
    assert records[0]["blur"].shape == (256, 256, 3)


def test_unpacked_folder_in_the_manual_directory(gopro_part, tmp_path):
    shutil.copytree(gopro_part, tmp_path / "data" / "downloads" / "manual" / "GOPRO_Large")
    builder = GoproLarge(config="blur_256", data_dir=tmp_path / "data", partial=True)
    builder.download_and_prepare()
    assert len(builder.as_data_source("train")) == 4


def test_order_and_positions_continue_across_files(gopro_part, tmp_path, monkeypatch):
    monkeypatch.setattr("jaxdeblur.data.gopro.builder.SHARD_BYTES", 3 * BYTES_PER_PAIR["256"])
    builder = prepare(gopro_part, tmp_path / "data", "blur_256")
    assert len(list(Path(builder.data_dir).glob("*-train.array_record*"))) == 2
    records = builder.as_data_source("train")
    assert [record["position"] for record in records] == [0, 1, 2, 3]
    names = [(record["sequence"].decode(), record["frame"].decode()) for record in records]
    assert names == [(sequence, f"00000{i}") for sequence in SEQUENCES["train"][:2] for i in (1, 2)]
    Path(builder.data_dir, "gopro_large-train.array_record-00001-of-00002").unlink()
    with pytest.raises(InputError, match="cannot be read as prepared data"):
        open_folder_of_records(Path(builder.data_dir))


def test_folder_is_locked(gopro_part, tmp_path):
    folder = tmp_path / "data" / "gopro_large" / "blur_256"
    (folder / "incomplete.ABCDEF_1.0.0").mkdir(parents=True)
    with exclusive_lock(folder, InputError("locked")), pytest.raises(InputError) as error:
        prepare(gopro_part, tmp_path / "data", "blur_256")
    assert error.value.code == "folder-locked"
    assert (folder / "incomplete.ABCDEF_1.0.0").exists()
    prepare(gopro_part, tmp_path / "data", "blur_256")


def test_config_must_be_named(tmp_path):
    with pytest.raises(ValueError, match=r"name a config, one of blur_256, .*blur_gamma_256"):
        tfds.builder("gopro_large", data_dir=tmp_path)


def test_missing_archive_is_named(tmp_path):
    (tmp_path / "downloads" / "manual").mkdir(parents=True)
    (tmp_path / "downloads" / "manual" / "other.zip").touch()
    builder = GoproLarge(config="blur_256", data_dir=tmp_path)
    with pytest.raises(InputError, match=r"manual: no GOPRO_Large.zip and no folder GOPRO_Large"):
        builder.download_and_prepare()


def test_part_is_recorded_and_not_accepted_as_the_whole(gopro_part, tmp_path):
    builder = prepare(gopro_part, tmp_path / "data", "blur_full")
    metadata = json.loads((builder.data_path / "metadata.json").read_text())
    assert metadata["partial"] is True
    assert metadata["missing"][0].startswith("train: 20 of 22 sequences missing")
    with pytest.raises(InputError, match="holds a part of the data set; expected the whole"):
        prepare(gopro_part, tmp_path / "data", "blur_full", partial=False)


def test_digests_are_those_of_the_files(gopro_part, tmp_path):
    columns = prepare(gopro_part, tmp_path / "data", "blur_256").info.metadata["pairs"]["test"]
    path = gopro_part / "test" / columns["sequence"][3] / "blur" / f"{columns['frame'][3]}.png"
    assert columns["blur_sha256"][3] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (columns["height"][3], columns["width"][3]) == (32, 32)


def test_existing_data_is_kept_and_another_source_refused(gopro_part, tmp_path):
    folder = prepare(gopro_part, tmp_path / "data", "blur_256").data_path
    before = {path: path.stat().st_mtime_ns for path in Path(folder).iterdir()}
    prepare(gopro_part, tmp_path / "data", "blur_256")
    assert {path: path.stat().st_mtime_ns for path in Path(folder).iterdir()} == before
    write_pairs(gopro_part, "test", SEQUENCES["test"][2], 1)
    with pytest.raises(InputError, match=r"was made from other files .*Remove"):
        prepare(gopro_part, tmp_path / "data", "blur_256")


def damage(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)


def test_all_corrupt_files_are_named_and_nothing_is_left(gopro_part, tmp_path):
    first, second = (gopro_part / split / SEQUENCES[split][1] / "blur" / "000001.png" for split in ("train", "test"))
    first.write_bytes(first.read_bytes()[:-300])
    Image.new("L", (32, 32)).save(second)
    third = gopro_part / "test" / SEQUENCES["test"][0] / "sharp" / "000002.png"
    Image.new("RGB", (30, 32)).save(third)
    with pytest.raises(InputError) as error:
        prepare(gopro_part, tmp_path / "data", "blur_full")
    for line in (
        "3 problem(s) with the images",
        str(first.relative_to(gopro_part)),
        "not an 8-bit RGB PNG",
        "differ in size",
    ):
        assert line in str(error.value)
    assert not list((tmp_path / "data" / "gopro_large").rglob("*.array_record*"))


def test_truncated_or_corrupt_zip_is_named(gopro_part, tmp_path):
    path = zip_folder(gopro_part, tmp_path / "GOPRO_Large.zip")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 2 // 3])
    with pytest.raises(InputError, match=r"GOPRO_Large.zip: cannot be read as a zip .* truncated"):
        Archive(path)
    path.write_bytes(whole[:200] + bytes(40) + whole[240:])
    with pytest.raises(InputError, match=r"zip: 1 problem\(s\) with the images(.|\n)*cannot be read \(Bad CRC-32"):
        prepare(path, tmp_path / "data", "blur_256")
    with pytest.raises(InputError, match=r"no such file or folder; expected GOPRO_Large\.zip"):
        Archive(tmp_path / "nowhere.zip")


def test_too_small_disk_is_refused_first(gopro_part, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 10, 10**6))
    with pytest.raises(InputError, match=r"3 MB needed for 8 pairs, 1 MB free"):
        prepare(gopro_part, tmp_path / "data", "blur_256")


def test_refused_source_leaves_nothing(gopro_part, tmp_path):
    with pytest.raises(InputError, match="sequences missing"):
        prepare(gopro_part, tmp_path / "data", "blur_256", partial=False)
    assert not (tmp_path / "data").exists()


def test_full_disk_is_reported(gopro_part, tmp_path, monkeypatch):
    class FullDisk(ArrayRecordWriter):
        def write(self, record):
            raise RuntimeError("write() failed: No space left on device")

    monkeypatch.setattr("jaxdeblur.data.gopro.builder.ArrayRecordWriter", FullDisk)
    with pytest.raises(InputError, match=r"cannot be written .*No space left on device.* Free disk space"):
        prepare(gopro_part, tmp_path / "data", "blur_256")
    assert not list((tmp_path / "data" / "gopro_large" / "blur_256").iterdir())


def test_leftovers_of_a_killed_process_are_removed(gopro_part, tmp_path):
    leftover = tmp_path / "data" / "gopro_large" / "blur_256" / "incomplete.ABCDEF_1.0.0"
    leftover.mkdir(parents=True)
    (leftover / "half").touch()
    prepare(gopro_part, tmp_path / "data", "blur_256")
    assert [path.name for path in leftover.parent.iterdir()] == ["1.0.0"]


def test_real_frames_are_stored_as_published(real_gopro, tmp_path):
    builder = prepare(real_gopro, tmp_path / "data", "blur_tiles")
    assert len(builder.as_data_source("test")) == 3 * 60
    assert GoproLarge.name == builder.name == "gopro_large"
