"""What a step sees is a function of seed and step alone; both images of a pair are treated alike."""

import collections
import dataclasses
import hashlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxdeblur.data.array_records import open_prepared
from jaxdeblur.data.gopro.archive import SEQUENCES
from jaxdeblur.data.gopro.builder import GoproLarge
from jaxdeblur.data.paired_folders import open_folder
from jaxdeblur.data.pipeline import (
    InputOptions,
    check_sizes,
    make_eval_pairs,
    make_train_batches,
    steps_per_epoch,
)
from jaxdeblur.errors import InputError
from jaxdeblur.images.decode import resize_image
from tests.helpers.images import write_pairs

PLAIN = InputOptions(resize=0, resize_filter="bicubic", flip_and_turn=False)
AUGMENTED = InputOptions(resize=0, resize_filter="bicubic", flip_and_turn=True)


class NumberedSource:
    """Ten pairs whose pixels say which pair, row and column they are; sharp is blur plus one."""

    sizes = [(32, 32)] * 10

    def __init__(self):
        self.rows, self.columns = np.meshgrid(np.arange(32), np.arange(32), indexing="ij")

    def __len__(self):
        return 10

    def __getitem__(self, index):
        return self.read(index, np.s_[:, :])

    def read(self, index, window):
        blur = np.stack([np.full((32, 32), 20 * index), 4 * self.rows, 4 * self.columns], axis=-1).astype(np.uint8)
        return {"blur": blur[window], "sharp": blur[window] + 1, "sequence": "s", "frame": str(index)}


def batches(
    source,
    options,
    count,
    *,
    crop=0,
    first_step=0,
    seed=0,
    num_threads=2,
    batch_size=3,
    process_index=0,
    processes=1,
    mixture=(),
):
    iterator = make_train_batches(
        source,
        options,
        crop=crop,
        batch_size=batch_size,
        seed=seed,
        first_step=first_step,
        num_threads=num_threads,
        process_index=process_index,
        process_count=processes,
        mixture=mixture,
    )
    return [next(iterator) for _ in range(count)]


def digests(found):
    return [hashlib.sha256(batch["blur"].tobytes() + batch["sharp"].tobytes()).hexdigest() for batch in found]


def test_a_step_sees_the_same_from_any_start_and_with_any_number_of_threads():
    whole = digests(batches(NumberedSource(), AUGMENTED, 12, crop=24))
    assert len(set(whole)) == 12
    for first_step, num_threads in ((0, 1), (5, 2), (11, 4)):
        left = 12 - first_step
        rest = batches(NumberedSource(), AUGMENTED, left, crop=24, first_step=first_step, num_threads=num_threads)
        assert digests(rest) == whole[first_step:]
    assert digests(batches(NumberedSource(), AUGMENTED, 12, crop=24, seed=1)) != whole


@pytest.mark.parametrize("processes", [2, 3, 6])
def test_the_parts_of_several_processes_are_the_batch_of_one(processes):
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


def test_no_more_is_read_than_this_process_needs():
    """Half of the pairs of each batch, give or take what threads read ahead."""
    seen = []

    class Counting(NumberedSource):
        def read(self, index, window):
            seen.append(index)
            return super().read(index, window)

    batches(Counting(), AUGMENTED, 20, batch_size=10, num_threads=1, process_index=1, processes=2)
    assert 100 <= len(seen) <= 125


def test_each_epoch_shows_every_image_once_in_another_order():
    shown = [
        int(image[0, 0, 0]) // 20
        for batch in batches(NumberedSource(), PLAIN, 6, batch_size=5)
        for image in batch["blur"]
    ]
    epochs = [shown[:10], shown[10:20], shown[20:]]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3


def test_both_images_are_cropped_mirrored_and_turned_alike():
    corners = set()
    for batch in batches(NumberedSource(), AUGMENTED, 40, crop=24):
        np.testing.assert_array_equal(batch["sharp"], batch["blur"] + 1)
        assert batch["blur"].shape == (3, 24, 24, 3)
        for image in batch["blur"].astype(int):
            window = {(pixel[1] // 4, pixel[2] // 4) for pixel in image.reshape(-1, 3)}
            rows, columns = ({place[axis] for place in window} for axis in (0, 1))
            assert len(rows) == len(columns) == 24  # a whole window, nothing twice
            across, down = image[0, 1] - image[0, 0], image[1, 0] - image[0, 0]
            corners.add((*across[1:], *down[1:]))
    assert len(corners) == 8  # all mirrorings and turns occur


def test_augmentation_is_even_and_drawn_anew_each_epoch():
    """All 81 places and 8 turns of a crop occur about equally often, and an image is not cut twice alike."""
    counts, seen = collections.Counter(), collections.defaultdict(set)
    for batch in batches(NumberedSource(), AUGMENTED, 540, crop=24):
        for image in batch["blur"].astype(int):
            window = image.reshape(-1, 3)
            place = (*window.min(axis=0)[1:] // 4, *(image[0, 1] - image[0, 0])[1:], *(image[1, 0] - image[0, 0])[1:])
            counts[place] += 1
            seen[window[0, 0]].add(place)
    assert len(counts) == pytest.approx(81 * 8 * (1 - np.exp(-1620 / 648)), abs=30)
    assert max(counts.values()) < 12
    assert min(len(places) for places in seen.values()) > 120  # of 162 looks at each image


def test_frames_that_are_not_square_keep_their_shape():
    class Wide(NumberedSource):
        sizes = [(8, 12)] * 10

        def read(self, index, window):
            return {"blur": np.zeros((8, 12, 3), np.uint8)[window], "sharp": np.zeros((8, 12, 3), np.uint8)[window]}

    for batch in batches(Wide(), AUGMENTED, 8):
        assert batch["blur"].shape == (3, 8, 12, 3)


def test_crops_are_taken_from_the_resized_frame(tiny_gopro):
    source = open_folder(tiny_gopro / "train", "blur", skip_bad=False)
    resized = [resize_image(source[i]["sharp"], 20, "bicubic") for i in range(len(source))]
    windows = np.stack([np.lib.stride_tricks.sliding_window_view(image, (12, 12, 3)) for image in resized])
    for batch in batches(source, dataclasses.replace(PLAIN, resize=20), 4, crop=12):
        for image in batch["sharp"]:
            assert (windows == image).all(axis=(-3, -2, -1)).sum() == 1


def test_resizing_is_pillows_filter_by_name(tiny_gopro):
    source = open_folder(tiny_gopro / "test", "blur", skip_bad=False)
    for name in ("bicubic", "nearest"):
        options = dataclasses.replace(AUGMENTED, resize=20, resize_filter=name)
        pairs = list(make_eval_pairs(source, options, num_threads=2))
        path = tiny_gopro / "test" / "scene_u" / "sharp" / "000001.png"
        expected = Image.open(path).resize((20, 20), Image.Resampling[name.upper()])
        np.testing.assert_array_equal(pairs[3]["sharp"], np.asarray(expected))
        assert [pair["sequence"] for pair in pairs] == ["scene_t"] * 3 + ["scene_u"] * 2


def test_an_epoch_needs_a_batch():
    assert steps_per_epoch(10, 3, 0) == 3
    assert steps_per_epoch(10, 3, 20) == 6
    with pytest.raises(InputError, match=r"data\.epoch_images: 2, but a batch has 3 images"):
        steps_per_epoch(10, 3, 2)
    with pytest.raises(InputError, match="batch_size: 4, but only 3 training pairs"):
        steps_per_epoch(3, 4, 0)


def test_sizes_that_cannot_be_cropped_or_batched_are_refused(tiny_gopro):
    for variant in ("blur", "sharp"):
        Image.new("RGB", (20, 40)).save(tiny_gopro / "train" / "scene_b" / variant / "000001.png")
    source = open_folder(tiny_gopro / "train", "blur", skip_bad=False)
    squeezed = dataclasses.replace(PLAIN, resize=16)
    with pytest.raises(InputError, match=r"stages\[1\].crop: 24 is larger than the smallest training image, 20 pixels"):
        check_sizes(source, PLAIN, [20, 24])
    with pytest.raises(InputError, match=r"have 2 sizes \(32x32, 20x40\) .*Set stages\[1\].crop or data.resize"):
        check_sizes(source, PLAIN, [20, 0])
    with pytest.raises(InputError, match=r"stages\[0\].crop: 24 is larger than data.resize, 16"):
        check_sizes(source, squeezed, [24])
    halved = dataclasses.replace(PLAIN, rescale=(0.5, 1.0))
    with pytest.raises(
        InputError, match=r"stages\[0\].crop: 12 takes up to 24 pixels of a frame \(data.rescale, .*20 pix"
    ):
        check_sizes(source, halved, [12, 10])
    with pytest.raises(InputError, match=r"stages\[0\].crop: 10 takes up to 29 pixels"):
        check_sizes(source, dataclasses.replace(halved, stretch=2.0), [10])
    check_sizes(source, halved, [10])
    check_sizes(source, PLAIN, [20, 16])
    check_sizes(source, squeezed, [0, 16])


def test_an_image_damaged_since_the_scan_ends_the_iteration_with_its_name(tiny_gopro):
    source = open_folder(tiny_gopro / "train", "blur", skip_bad=False)
    path = tiny_gopro / "train" / "scene_a" / "blur" / "000002.png"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"scene_a/blur/000002.png: cannot be read"):
        batches(source, PLAIN, 4)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the memory in use is read from Linux's /proc")
@pytest.mark.parametrize("form", ["256", "tiles"])
def test_memory_stays_flat_over_ten_thousand_batches(tmp_path, form):
    for split in ("train", "test"):
        write_pairs(tmp_path / "GOPRO_Large", split, SEQUENCES[split][0], 5, side=40)
    source = GoproLarge(
        config=f"blur_{form}", data_dir=tmp_path / "data", source=tmp_path / "GOPRO_Large", partial=True
    )
    source.download_and_prepare()
    resize = 256 if form == "256" else 0
    prepared = open_prepared(tmp_path / "data", blur="blur", resize=resize, resize_filter="bicubic")["train"]
    options = InputOptions(resize=resize, resize_filter="bicubic", flip_and_turn=True)
    stream = make_train_batches(
        prepared,
        options,
        crop=32,
        batch_size=4,
        seed=0,
        first_step=0,
        num_threads=2,
        process_index=0,
        process_count=1,
    )

    def memory_after(batches):
        for _ in range(batches):
            next(stream)
        line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS"))
        return int(line.split()[1]) / 1024  # MiB

    before = memory_after(1000)
    assert memory_after(9000) < before + 20
