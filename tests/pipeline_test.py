"""What a step sees is a function of seed and step alone; both images of a pair are treated alike."""

import dataclasses
import hashlib

import numpy as np
import pytest
from PIL import Image

from jaxdeblur.data.folders import FolderSource, find_pairs
from jaxdeblur.data.pipeline import (
    InputOptions,
    check_sizes,
    make_eval_pairs,
    make_train_batches,
    steps_per_epoch,
)
from jaxdeblur.errors import InputError

PLAIN = InputOptions(resize=0, resize_filter="bicubic", crop=0, flip_and_turn=False)
AUGMENTED = InputOptions(resize=0, resize_filter="bicubic", crop=24, flip_and_turn=True)


class NumberedSource:
    """Ten pairs whose pixels say which pair, row and column they are; sharp is blur plus one."""

    def __init__(self):
        self.rows, self.columns = np.meshgrid(np.arange(32), np.arange(32), indexing="ij")

    def __len__(self):
        return 10

    def __getitem__(self, index):
        blur = np.stack([np.full((32, 32), 20 * index), 4 * self.rows, 4 * self.columns], axis=-1).astype(np.uint8)
        return {"blur": blur, "sharp": blur + 1, "sequence": "s", "frame": str(index)}


def batches(source, options, count, *, first_step=0, seed=0, num_threads=2, batch_size=3):
    iterator = make_train_batches(
        source, options, batch_size=batch_size, seed=seed, first_step=first_step, num_threads=num_threads
    )
    return [next(iterator) for _ in range(count)]


def digests(found):
    return [hashlib.sha256(batch["blur"].tobytes() + batch["sharp"].tobytes()).hexdigest() for batch in found]


def test_a_step_sees_the_same_from_any_start_and_with_any_number_of_threads():
    whole = digests(batches(NumberedSource(), AUGMENTED, 12))
    assert len(set(whole)) == 12
    for first_step, num_threads in ((0, 1), (5, 2), (11, 4)):
        rest = batches(NumberedSource(), AUGMENTED, 12 - first_step, first_step=first_step, num_threads=num_threads)
        assert digests(rest) == whole[first_step:]
    assert digests(batches(NumberedSource(), AUGMENTED, 12, seed=1)) != whole


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
    for batch in batches(NumberedSource(), AUGMENTED, 40):
        np.testing.assert_array_equal(batch["sharp"], batch["blur"] + 1)
        assert batch["blur"].shape == (3, 24, 24, 3)
        for image in batch["blur"].astype(int):
            window = {(pixel[1] // 4, pixel[2] // 4) for pixel in image.reshape(-1, 3)}
            rows, columns = ({place[axis] for place in window} for axis in (0, 1))
            assert len(rows) == len(columns) == 24  # a whole window, nothing twice
            across, down = image[0, 1] - image[0, 0], image[1, 0] - image[0, 0]
            corners.add((*across[1:], *down[1:]))
    assert len(corners) == 8  # all mirrorings and turns occur


def test_frames_that_are_not_square_keep_their_shape():
    source = [{"blur": np.zeros((8, 12, 3), np.uint8), "sharp": np.zeros((8, 12, 3), np.uint8)}] * 4
    for batch in batches(source, dataclasses.replace(PLAIN, flip_and_turn=True), 8):
        assert batch["blur"].shape == (3, 8, 12, 3)


def test_resizing_is_pillows_filter_by_name(tiny_gopro):
    source = FolderSource(find_pairs(tiny_gopro, "test", "blur"))
    for name in ("bicubic", "nearest"):
        options = dataclasses.replace(AUGMENTED, resize=20, resize_filter=name)
        pairs = list(make_eval_pairs(source, options, num_threads=2))
        path = tiny_gopro / "test" / "scene_u" / "sharp" / "000001.png"
        expected = Image.open(path).resize((20, 20), Image.Resampling[name.upper()])
        np.testing.assert_array_equal(pairs[3]["sharp"], np.asarray(expected))
        assert [pair["sequence"] for pair in pairs] == ["scene_t"] * 3 + ["scene_u"] * 2


def test_an_epoch_needs_a_batch():
    assert steps_per_epoch(10, 3) == 3
    with pytest.raises(InputError, match="batch_size: 4, but only 3 training pairs"):
        steps_per_epoch(3, 4)


def test_sizes_that_cannot_be_cropped_or_batched_are_refused(tiny_gopro):
    for variant in ("blur", "sharp"):
        Image.new("RGB", (20, 40)).save(tiny_gopro / "train" / "scene_b" / variant / "000001.png")
    source = FolderSource(find_pairs(tiny_gopro, "train", "blur"))
    with pytest.raises(InputError, match=r"1 of the training images:\n.*scene_b/blur/000001.png: 20x40"):
        check_sizes(source, AUGMENTED)
    with pytest.raises(InputError, match=r"have 2 sizes \(20x40, 32x32\)"):
        check_sizes(source, PLAIN)
    with pytest.raises(InputError, match=r"data.crop: 24 is larger than data.resize, 16"):
        check_sizes(source, dataclasses.replace(AUGMENTED, resize=16))
    check_sizes(source, dataclasses.replace(AUGMENTED, crop=20))


def test_a_damaged_image_ends_the_iteration_with_its_name(tiny_gopro):
    path = tiny_gopro / "train" / "scene_a" / "blur" / "000002.png"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    source = FolderSource(find_pairs(tiny_gopro, "train", "blur"))
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"scene_a/blur/000002.png: cannot be read"):
        batches(source, PLAIN, 4)
