"""Batches are a function of seed and step alone; both images of a pair are treated alike."""

import collections
import dataclasses
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxdeblur.data.array_records import open_prepared
from jaxdeblur.data.augment import InputOptions
from jaxdeblur.data.gopro.archive import SEQUENCES
from jaxdeblur.data.gopro.builder import GoproLarge
from jaxdeblur.data.paired_folders import open_folder
from jaxdeblur.data.pipeline import (
    BatchOptions,
    check_sizes,
    make_eval_pairs,
    make_train_batches,
    steps_per_epoch,
)
from jaxdeblur.errors import InputError
from jaxdeblur.images.resize import resize_image
from tests.helpers.batches import AUGMENTED, PLAIN, NumberedSource, batches, digests
from tests.helpers.images import write_pairs


def test_batches_do_not_depend_on_start_or_threads():
    whole = digests(batches(NumberedSource(), AUGMENTED, 12, crop=24))
    assert len(set(whole)) == 12
    for first_step, num_threads in ((0, 1), (5, 2), (11, 4)):
        left = 12 - first_step
        rest = batches(NumberedSource(), AUGMENTED, left, crop=24, first_step=first_step, num_threads=num_threads)
        assert digests(rest) == whole[first_step:]
    assert digests(batches(NumberedSource(), AUGMENTED, 12, crop=24, seed=1)) != whole


@pytest.mark.parametrize("processes", [2, 3, 6])
def test_parts_of_processes_make_up_the_batch(processes):
    whole = digests(batches(NumberedSource(), AUGMENTED, 5, crop=24, batch_size=6))
    parts = [
        batches(NumberedSource(), AUGMENTED, 5, crop=24, batch_size=6, process_index=i, processes=processes)
        for i in range(processes)
    ]
    assert {part[0]["blur"].shape for part in parts} == {(6 // processes, 24, 24, 3)}
    joined = [
        {key: np.concatenate([part[key] for part in step]) for key in ("blur", "sharp")}
        for step in zip(*parts, strict=True)
    ]
    assert digests(joined) == whole


def test_process_reads_only_its_part():
    """Half of the pairs of each batch, plus what threads read ahead."""
    seen = []

    class Counting(NumberedSource):
        def read(self, index, window):
            seen.append(index)
            return super().read(index, window)

    batches(Counting(), AUGMENTED, 20, batch_size=10, num_threads=1, process_index=1, processes=2)
    assert 100 <= len(seen) <= 125


def test_epochs_are_permutations_in_different_orders():
    shown = [
        int(image[0, 0, 0]) // 20
        for batch in batches(NumberedSource(), PLAIN, 6, batch_size=5)
        for image in batch["blur"]
    ]
    epochs = [shown[:10], shown[10:20], shown[20:]]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3


def test_both_images_are_cropped_flipped_and_rotated_alike():
    corners = set()
    for batch in batches(NumberedSource(), AUGMENTED, 40, crop=24):
        np.testing.assert_array_equal(batch["sharp"], batch["blur"] + 1)
        assert batch["blur"].shape == (3, 24, 24, 3)
        for image in batch["blur"].astype(int):
            window = {(pixel[1] // 4, pixel[2] // 4) for pixel in image.reshape(-1, 3)}
            rows, columns = ({place[axis] for place in window} for axis in (0, 1))
            assert len(rows) == len(columns) == 24  # a complete window without duplicates
            across, down = image[0, 1] - image[0, 0], image[1, 0] - image[0, 0]
            corners.add((*across[1:], *down[1:]))
    assert len(corners) == 8  # all flips and rotations occur


def test_augmentation_is_uniform_and_differs_between_epochs():
    """All 81 positions and 8 orientations of a crop occur about equally often, and differ for each image."""
    counts, seen = collections.Counter(), collections.defaultdict(set)
    for batch in batches(NumberedSource(), AUGMENTED, 540, crop=24):
        for image in batch["blur"].astype(int):
            window = image.reshape(-1, 3)
            place = (*window.min(axis=0)[1:] // 4, *(image[0, 1] - image[0, 0])[1:], *(image[1, 0] - image[0, 0])[1:])
            counts[place] += 1
            seen[window[0, 0]].add(place)
    assert len(counts) == pytest.approx(81 * 8 * (1 - np.exp(-1620 / 648)), abs=30)
    assert max(counts.values()) < 12
    assert min(len(places) for places in seen.values()) > 120  # of 162 crops of each image


def test_non_square_frames_keep_their_shape():
    class Wide(NumberedSource):
        sizes = [(8, 12)] * 10

        def read(self, index, window):
            return {"blur": np.zeros((8, 12, 3), np.uint8)[window], "sharp": np.zeros((8, 12, 3), np.uint8)[window]}

    for batch in batches(Wide(), AUGMENTED, 8):
        assert batch["blur"].shape == (3, 8, 12, 3)


def test_crops_are_from_the_resized_frame(tiny_gopro):
    source = open_folder(tiny_gopro / "train", "blur", skip_invalid=False)
    resized = [resize_image(source[i]["sharp"], 20, "bicubic") for i in range(len(source))]
    windows = np.stack([np.lib.stride_tricks.sliding_window_view(image, (12, 12, 3)) for image in resized])
    for batch in batches(source, dataclasses.replace(PLAIN, resize=20), 4, crop=12):
        for image in batch["sharp"]:
            assert (windows == image).all(axis=(-3, -2, -1)).sum() == 1


def test_resizing_uses_the_named_pillow_filter(tiny_gopro):
    source = open_folder(tiny_gopro / "test", "blur", skip_invalid=False)
    for name in ("bicubic", "nearest"):
        options = dataclasses.replace(AUGMENTED, resize=20, resize_filter=name)
        pairs = list(make_eval_pairs(source, options, num_threads=2))
        path = tiny_gopro / "test" / "scene_u" / "sharp" / "000001.png"
        expected = Image.open(path).resize((20, 20), Image.Resampling[name.upper()])
        np.testing.assert_array_equal(pairs[3]["sharp"], np.asarray(expected))
        assert [pair["sequence"] for pair in pairs] == ["scene_t"] * 3 + ["scene_u"] * 2


def test_epoch_has_at_least_one_batch():
    assert steps_per_epoch(10, 3, 0) == 3
    assert steps_per_epoch(10, 3, 20) == 6
    with pytest.raises(InputError, match=r"data\.epoch_images: 2, but a batch has 3 images"):
        steps_per_epoch(10, 3, 2)
    with pytest.raises(InputError, match="batch_size: 4, but there are only 3 training pairs"):
        steps_per_epoch(3, 4, 0)


def test_sizes_that_cannot_be_cropped_or_batched_are_refused(tiny_gopro):
    for variant in ("blur", "sharp"):
        Image.new("RGB", (20, 40)).save(tiny_gopro / "train" / "scene_b" / variant / "000001.png")
    source = open_folder(tiny_gopro / "train", "blur", skip_invalid=False)
    resized_options = dataclasses.replace(PLAIN, resize=16)
    with pytest.raises(InputError, match=r"stages\[1\].crop: 24 is larger than the smallest training image, 20 pixels"):
        check_sizes(source, PLAIN, [20, 24])
    with pytest.raises(InputError, match=r"have 2 sizes \(32x32, 20x40\) .*Set stages\[1\].crop or data.resize"):
        check_sizes(source, PLAIN, [20, 0])
    with pytest.raises(InputError, match=r"stages\[0\].crop: 24 is larger than data.resize, 16"):
        check_sizes(source, resized_options, [24])
    halved = dataclasses.replace(PLAIN, zoom=(0.5, 1.0))
    with pytest.raises(
        InputError, match=r"stages\[0\].crop: 12 needs up to 24 pixels of a frame \(data.zoom, .*20 pix"
    ):
        check_sizes(source, halved, [12, 10])
    with pytest.raises(InputError, match=r"stages\[0\].crop: 10 needs up to 29 pixels"):
        check_sizes(source, dataclasses.replace(halved, aspect_jitter=2.0), [10])
    check_sizes(source, halved, [10])
    check_sizes(source, PLAIN, [20, 16])
    check_sizes(source, resized_options, [0, 16])


def test_image_corrupted_after_the_scan_is_named(tiny_gopro):
    source = open_folder(tiny_gopro / "train", "blur", skip_invalid=False)
    path = tiny_gopro / "train" / "scene_a" / "blur" / "000002.png"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"scene_a/blur/000002.png: cannot be read"):
        batches(source, PLAIN, 4)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads memory in use from Linux's /proc")
@pytest.mark.parametrize("form", ["256", "tiles"])
def test_memory_is_constant_over_ten_thousand_batches(tmp_path, form):
    for split in ("train", "test"):
        write_pairs(tmp_path / "GOPRO_Large", split, SEQUENCES[split][0], 5, side=40)
    source = GoproLarge(
        config=f"blur_{form}", data_dir=tmp_path / "data", source=tmp_path / "GOPRO_Large", partial=True
    )
    source.download_and_prepare()
    resize = 256 if form == "256" else 0
    prepared = open_prepared(tmp_path / "data", blur_variant="blur", resize=resize, resize_filter="bicubic")["train"]
    options = InputOptions(resize=resize, resize_filter="bicubic", flip_and_rotate=True)
    stream = make_train_batches(
        prepared,
        options,
        BatchOptions(crop=32, batch_size=4, seed=0, num_threads=2),
        first_step=0,
    )

    def memory_after(batches):
        for _ in range(batches):
            next(stream)
        line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS"))
        return int(line.split()[1]) / 1024  # MiB

    before = memory_after(1000)
    assert memory_after(9000) < before + 20
