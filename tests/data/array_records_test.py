"""Prepared data equals the folder it was prepared from, in every storage format."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
from PIL import Image

from jaxdeblur.data.array_records import is_prepared, open_prepared
from jaxdeblur.data.augment import InputOptions, read_example
from jaxdeblur.data.gopro.builder import GoproLarge
from jaxdeblur.data.mixture import MixtureOptions, open_part
from jaxdeblur.data.paired_folders import open_folder
from jaxdeblur.data.pipeline import BatchOptions, make_train_batches
from jaxdeblur.data.sources import DataOptions, name_data_set, open_sources
from jaxdeblur.errors import InputError
from jaxdeblur.experiment.setup import open_run
from jaxdeblur.images.resize import resize_image

SIZES = ((150, 260), (128, 128), (130, 90))  # (H, W): tiles of all kinds


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A folder of two sequences with frames of three sizes, and all three storage formats prepared from it."""
    root, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    for split, sequence in (("train", "GOPR0372_07_00"), ("train", "GOPR0477_11_00"), ("test", "GOPR0384_11_00")):
        for frame, (height, width) in enumerate(SIZES):
            for variant in ("blur", "sharp"):
                path = root / "GOPRO_Large" / split / sequence / variant / f"{frame:06d}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8)).save(path)
    for storage_format in ("256", "tiles", "full"):
        prepare(root / "GOPRO_Large", root / storage_format, storage_format)
    return root


def prepare(source, data_dir, storage_format):
    GoproLarge(config=f"blur_{storage_format}", data_dir=data_dir, source=source, partial=True).download_and_prepare()


def open_format(root, storage_format, *, resize=0, resize_filter="bicubic"):
    return open_prepared(root / storage_format, blur_variant="blur", resize=resize, resize_filter=resize_filter)


@pytest.mark.parametrize("storage_format", ["tiles", "full"])
def test_frames_names_and_fingerprint_equal_the_folders(prepared, storage_format):
    folder = open_folder(prepared / "GOPRO_Large" / "train", "blur", skip_invalid=False)
    source = open_format(prepared, storage_format)["train"]
    assert (source.names, source.sizes, source.digests) == (folder.names, folder.sizes, folder.digests)
    assert source.fingerprint() == folder.fingerprint()
    for prepared_source, folder_source in zip(source, folder, strict=True):
        assert (prepared_source["sequence"], prepared_source["frame"]) == (
            folder_source["sequence"],
            folder_source["frame"],
        )
        for key in ("blur", "sharp"):
            np.testing.assert_array_equal(prepared_source[key], folder_source[key])


@pytest.mark.parametrize("storage_format", ["tiles", "full"])
def test_windows_are_at_the_right_position(prepared, storage_format):
    source, rng = open_format(prepared, storage_format)["test"], np.random.default_rng(1)
    for _ in range(100):
        index = int(rng.integers(len(source)))
        height, width = source.sizes[index]
        (top, bottom), (left, right) = (np.sort(rng.choice(side + 1, 2, replace=False)) for side in (height, width))
        window = np.s_[int(top) : int(bottom), int(left) : int(right)]
        for key in ("blur", "sharp"):
            np.testing.assert_array_equal(source.read(index, window)[key], source[index][key][window])


def test_window_reads_only_overlapping_tiles(prepared, monkeypatch):
    source, tiles_read = open_format(prepared, "tiles")["train"], []
    records = source._records

    class Seen:
        def __getitem__(self, index):
            tiles_read.append(index)
            return records[index]

    monkeypatch.setattr(source, "_records", Seen())
    source.read(3, np.s_[100:128, 120:140])  # the fourth pair, 150 x 260, is 2 rows of 3 tiles
    first = 6 + 1 + 2
    assert tiles_read == [first, first + 1]


def test_select(prepared):
    source = open_format(prepared, "tiles")["train"]
    some = source.select(lambda sequence, frame: frame != "000000").select(lambda sequence, frame: frame == "000001")
    assert some.names == [source.names[1], source.names[4]]
    assert (some[1]["sequence"], some[1]["frame"]) == source.names[4] == ("GOPR0477_11_00", "000001")
    np.testing.assert_array_equal(some[1]["sharp"], source[4]["sharp"])
    assert some.digests == [source.digests[1], source.digests[4]]


@pytest.mark.parametrize("crop", [0, 100])
def test_batches_are_equal_from_a_folder_and_every_format(prepared, crop):
    """So a run may start on one and resume on another."""
    options = InputOptions(resize=256, resize_filter="bicubic", flip_and_rotate=True)
    if crop:
        options = InputOptions(resize=0, resize_filter="bicubic", flip_and_rotate=True)
    sources = [open_folder(prepared / "GOPRO_Large" / "train", "blur", skip_invalid=False)]
    for storage_format in ("tiles", "full") if crop else ("256", "tiles", "full"):
        sources.append(open_format(prepared, storage_format, resize=options.resize)["train"])
    sources = [source.select(lambda sequence, frame: frame != "000002") for source in sources]  # too small for the crop
    streams = [
        make_train_batches(source, options, BatchOptions(crop=crop, batch_size=2, seed=0, num_threads=2), first_step=3)
        for source in sources
    ]
    for _ in range(4):
        first, *others = (next(stream) for stream in streams)
        for other in others:
            np.testing.assert_array_equal(first["blur"], other["blur"])
            np.testing.assert_array_equal(first["sharp"], other["sharp"])


@pytest.mark.parametrize("resize", [0, 64, 256])
def test_zoomed_windows_are_equal_from_a_folder_and_every_format(prepared, resize):
    zoom = (1.0, 2.0) if resize else (0.8, 1.5)
    options = InputOptions(resize, "bicubic", flip_and_rotate=True, zoom=zoom, aspect_jitter=1.1)
    sources = [open_folder(prepared / "GOPRO_Large" / "train", "blur", skip_invalid=False)]
    for storage_format in ("tiles", "full"):
        opened = open_prepared(
            prepared / storage_format,
            blur_variant="blur",
            resize=resize,
            resize_filter="bicubic",
            full_frames=options.reads_windows,
        )
        sources.append(opened["train"])
    for i in range(6):
        examples = [
            read_example(source, i, options, 40 if i % 2 or not resize else 0, np.random.default_rng(i))
            for source in sources
        ]
        for other in examples[1:]:
            np.testing.assert_array_equal(examples[0]["blur"], other["blur"])
            np.testing.assert_array_equal(examples[0]["sharp"], other["sharp"])


def test_resized_frames_cannot_be_zoomed(prepared):
    messages = (
        r"data.root: .*256 holds blur_256 of .*; data.blur_variant='blur' at full size, since data.crop_scale or "
        r"data.aspect_jitter crops windows of frames, needs blur_tiles or blur_full. Run `jaxdeblur prepare-gopro "
        r"--blur blur --frames tiles`"
    )
    with pytest.raises(InputError, match=messages):
        open_prepared(prepared / "256", blur_variant="blur", resize=256, resize_filter="bicubic", full_frames=True)
    options = MixtureOptions(prepared / "256", 0.5, "blur", InputOptions(256, "bicubic", True, zoom=(1, 2)))
    with pytest.raises(
        InputError, match=r"data.mixture\[0\].root: .*since data.mixture\[0\].crop_scale or .* --frames tiles"
    ):
        open_part(options, "data.mixture[0]", skip_invalid=False, crop=0)
    unzoomed = dataclasses.replace(options, inputs=dataclasses.replace(options.inputs, zoom=(1, 1)))
    part = open_part(unzoomed, "data.mixture[0]", skip_invalid=False, crop=0)
    assert (part.source.name, len(part.source), part.data_set) == ("gopro_large/blur_256", 6, "gopro_large (a part)")


def test_training_reads_full_frames_and_validation_resized_ones(prepared, tiny_config, tmp_path):
    for storage_format in ("256", "tiles"):
        shutil.copytree(
            prepared / storage_format / "gopro_large", tmp_path / "data" / "gopro_large", dirs_exist_ok=True
        )
    tiny_config.data.update(root=str(tmp_path / "data"), validation_sequences=("GOPR0477_11_00",), resize=256)
    tiny_config.evaluation.protocols = ("256",)
    for crop_scale, storage_format in (((1.0, 2.0), "tiles"), ((1.0, 1.0), "256")):
        tiny_config.data.crop_scale = crop_scale
        run = open_run(tiny_config, tmp_path / "run")
        run.release()
        assert run.source.name == f"gopro_large/blur_{storage_format}"
        assert {source.name for source in run.evaluator.protocols[0].sources.values()} == {"gopro_large/blur_256"}


def test_fastest_suitable_format_is_opened(prepared, tmp_path):
    for storage_format in ("256", "full", "tiles"):
        shutil.copytree(prepared / storage_format / "gopro_large", tmp_path / "gopro_large", dirs_exist_ok=True)

    def chosen(resize, resize_filter="bicubic"):
        return open_prepared(tmp_path, blur_variant="blur", resize=resize, resize_filter=resize_filter)["test"].name

    assert chosen(256) == "gopro_large/blur_256"
    assert chosen(256, "bilinear") == chosen(128) == chosen(0) == "gopro_large/blur_tiles"
    shutil.rmtree(tmp_path / "gopro_large" / "blur_tiles")
    assert chosen(0) == "gopro_large/blur_full"
    shutil.rmtree(tmp_path / "gopro_large" / "blur_full")
    with pytest.raises(InputError, match=r"holds blur_256 of .* at full size needs blur_tiles or blur_full"):
        chosen(0)
    with pytest.raises(
        InputError, match=r"data.blur_variant='blur_gamma' .*needs blur_gamma_256 or .*--blur blur_gamma"
    ):
        open_prepared(tmp_path, blur_variant="blur_gamma", resize=256, resize_filter="bicubic")


def test_blur_variants_are_distinct(prepared, tmp_path):
    """Gamma images differ, and are available under their own name only."""
    root = tmp_path / "GOPRO_Large"
    shutil.copytree(prepared / "GOPRO_Large", root)
    for path in root.glob("*/*/blur/*.png"):
        gamma = path.parent.parent / "blur_gamma" / path.name
        gamma.parent.mkdir(exist_ok=True)
        Image.fromarray(255 - np.asarray(Image.open(path))).save(gamma)
    for blur in ("blur", "blur_gamma"):
        builder = GoproLarge(config=f"{blur}_256", data_dir=tmp_path / "both", source=root, partial=True)
        builder.download_and_prepare()
    for blur in ("blur", "blur_gamma"):
        source = open_prepared(tmp_path / "both", blur_variant=blur, resize=256, resize_filter="bicubic")["train"]
        path = root / "train" / "GOPR0372_07_00" / blur / "000000.png"
        np.testing.assert_array_equal(source[0]["blur"], resize_image(np.asarray(Image.open(path)), 256, "bicubic"))
        assert source.name == f"gopro_large/{blur}_256"


def test_prepared_data_has_the_same_splits(prepared):
    options = DataOptions(prepared / "tiles", "blur", "official", ("GOPR0477_11_00",), False)
    sources = open_sources(options, resize=0, resize_filter="bicubic", crop=0)
    assert [sources["validation"].names[i] for i in (0, -1)] == [("GOPR0477_11_00", f"00000{i}") for i in (0, 2)]
    assert {sequence for sequence, _ in sources["train"].names} == {"GOPR0372_07_00"}
    assert name_data_set(options.root, sources["train"]) == "gopro_large (a part)"
    with pytest.raises(InputError, match=r"'drawn', but prepared data has splits"):
        open_sources(DataOptions(options.root, "blur", "drawn", (), False), resize=0, resize_filter="bicubic", crop=0)


@pytest.mark.parametrize("storage_format", ["256", "tiles"])
def test_corrupt_data_is_named(prepared, tmp_path, storage_format):
    shutil.copytree(prepared / storage_format, tmp_path / storage_format)
    folder = tmp_path / storage_format / "gopro_large" / f"blur_{storage_format}" / "1.0.0"
    (file,) = folder.glob("*-train.array_record*")
    content = bytearray(file.read_bytes())
    content[len(content) // 3 : len(content) // 3 + 5000] = bytes(5000)
    file.write_bytes(content)
    source = open_format(tmp_path, storage_format, resize=256)["train"]
    with pytest.raises(InputError, match=r"pair \d of train cannot be read .*prepare-gopro` again"):
        [source[i] for i in range(len(source))]
    file.write_bytes(content[: len(content) * 2 // 3])
    with pytest.raises(InputError) as error:
        open_format(tmp_path, storage_format, resize=256)
    assert error.value.code == "prepared-data-corrupt"
    file.unlink()
    with pytest.raises(InputError) as error:
        open_format(tmp_path, storage_format, resize=256)
    assert error.value.code == "prepared-data-corrupt"
    (folder / "dataset_info.json").write_text("{")
    with pytest.raises(InputError) as error:
        open_format(tmp_path, storage_format, resize=256)
    assert error.value.code == "prepared-data-corrupt"


def test_mismatch_of_metadata_and_records_is_refused(prepared, tmp_path):
    shutil.copytree(prepared / "256", tmp_path / "256")
    path = tmp_path / "256" / "gopro_large" / "blur_256" / "1.0.0" / "metadata.json"
    metadata = json.loads(path.read_text())
    metadata["pairs"]["test"]["frame"].pop()
    path.write_text(json.dumps(metadata))
    with pytest.raises(InputError, match="3 records of test, expected 2"):
        open_format(tmp_path, "256", resize=256)


def test_misnamed_folders_are_refused(prepared, tmp_path):
    configs = tmp_path / "gopro_large"
    shutil.copytree(prepared / "256" / "gopro_large" / "blur_256", configs / "blur_gamma_256")
    with pytest.raises(InputError, match=r"holds blur_256, version 1\.0\.0"):
        open_prepared(tmp_path, blur_variant="blur_gamma", resize=256, resize_filter="bicubic")
    (configs / "blur_gamma_256").rename(configs / "blur_256")
    for other in ("2.0.0", "incomplete.ABCDEF_1.0.0"):
        (configs / "blur_256" / "1.0.0").rename(configs / "blur_256" / other)
        with pytest.raises(InputError, match=r"holds nothing of version 1\.0\.0"):
            open_prepared(tmp_path, blur_variant="blur", resize=256, resize_filter="bicubic")
        (configs / "blur_256" / other).rename(configs / "blur_256" / "1.0.0")


def test_folder_of_files_is_not_prepared_data(prepared, tmp_path):
    assert is_prepared(prepared / "256")
    (tmp_path / "gopro_large" / "blur_256").mkdir(parents=True)
    assert not is_prepared(tmp_path)
    assert not is_prepared(prepared / "GOPRO_Large")


def test_real_frames_resized_once_equal_those_resized_each_time(real_gopro, tmp_path):
    prepare(real_gopro, tmp_path, "256")
    prepared_source = open_prepared(tmp_path, blur_variant="blur", resize=256, resize_filter="bicubic")["test"]
    folder_source = open_folder(real_gopro / "test", "blur", skip_invalid=False)
    assert prepared_source.fingerprint() == folder_source.fingerprint()
    np.testing.assert_array_equal(prepared_source[2]["blur"], resize_image(folder_source[2]["blur"], 256, "bicubic"))
