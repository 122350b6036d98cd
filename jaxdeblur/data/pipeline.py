"""From a source of pairs to batches, with grain: uint8 RGB, (B, H, W, 3), scaled to [0, 1] only on the device.

What training step s sees is a pure function of (seed, s): batch s of an endless stream of reshuffled epochs, whose
augmentation is drawn from (seed, position). So the step is the data position, and no iterator state needs saving.
"""

import dataclasses
from collections.abc import Iterator

import grain
import numpy as np
from PIL import Image

from jaxdeblur.data.folders import FolderSource
from jaxdeblur.errors import InputError, list_problems

RESIZE_FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


@dataclasses.dataclass(frozen=True)
class InputOptions:
    """How an image pair becomes the network's input.

    Attributes:
        resize: side in pixels of the square that the whole frame is resized to; 0 leaves it as it is.
        resize_filter: name of Pillow's filter, antialiased when it shrinks.
        crop: side in pixels of a random square of the (resized) frame, in training only; 0 takes it whole.
        flip_and_turn: in training, mirror at random and turn by a random multiple of 90 degrees.
    """

    resize: int
    resize_filter: str
    crop: int
    flip_and_turn: bool


def make_train_batches(
    source: FolderSource, options: InputOptions, *, batch_size: int, seed: int, first_step: int, num_threads: int
) -> Iterator[dict[str, np.ndarray]]:
    """Return an endless iterator over batches, from the one of `first_step` on.

    Yields:
        `blur` and `sharp`, both (batch_size, H, W, 3) uint8.
    """
    dataset = (
        grain.MapDataset.source(source)
        .seed(seed)
        .shuffle()
        .repeat()
        .map(lambda pair: _resize_pair(pair, options))
        .random_map(lambda pair, rng: _augment(pair, options, rng))
        .batch(batch_size, drop_remainder=True)
    )
    iterator = iter(dataset.to_iter_dataset(_read_options(num_threads)))
    iterator.set_state({"next_index": first_step})
    return iterator


def make_eval_pairs(source: FolderSource, options: InputOptions, *, num_threads: int) -> Iterator[dict]:
    """Return an iterator over all pairs in order, resized but neither cropped nor augmented.

    Yields:
        `blur` and `sharp`, both (H, W, 3) uint8, and `sequence` and `frame`.
    """
    dataset = grain.MapDataset.source(source).map(lambda pair: {**pair, **_resize_pair(pair, options)})
    return iter(dataset.to_iter_dataset(_read_options(num_threads)))


def steps_per_epoch(num_pairs: int, batch_size: int) -> int:
    """Return the batches that an epoch counts.

    Raises:
        InputError: there are fewer pairs than a batch holds.
    """
    if num_pairs < batch_size:
        raise InputError(f"data.batch_size: {batch_size}, but only {num_pairs} training pairs. Lower it.")
    return num_pairs // batch_size


def check_sizes(source: FolderSource, options: InputOptions) -> None:
    """Refuse pairs that cannot be cropped, or that cannot share a batch, before training starts.

    Raises:
        InputError: names the frames and their sizes.
    """
    if options.resize and options.crop > options.resize:
        raise InputError(f"data.crop: {options.crop} is larger than data.resize, {options.resize}. Lower it.")
    if options.resize:
        return
    if options.crop:
        small = [pair for pair in source.pairs if min(pair.size) < options.crop]
        problems = [f"{pair.blur}: {pair.size[1]}x{pair.size[0]} pixels" for pair in small]
        if problems:
            heading = f"data.crop: {options.crop} is larger than {len(problems)} of the training images:"
            raise InputError(list_problems(heading, problems, "Lower data.crop, or remove these pairs."))
    elif len({pair.size for pair in source.pairs}) > 1:
        sizes = sorted({f"{width}x{height}" for height, width in (pair.size for pair in source.pairs)})
        raise InputError(
            f"Training images have {len(sizes)} sizes ({', '.join(sizes[:5])}) and cannot share a batch. "
            "Set data.crop or data.resize."
        )


def _read_options(num_threads: int) -> grain.ReadOptions:
    # Grain warns when the buffer is smaller than the number of threads; a deep buffer only costs memory.
    return grain.ReadOptions(num_threads=num_threads, prefetch_buffer_size=2 * num_threads)


def _resize_pair(pair: dict, options: InputOptions) -> dict[str, np.ndarray]:
    images = {key: pair[key] for key in ("blur", "sharp")}
    if not options.resize:
        return images
    size, resample = (options.resize, options.resize), RESIZE_FILTERS[options.resize_filter]
    return {key: np.asarray(Image.fromarray(image).resize(size, resample)) for key, image in images.items()}


def _augment(pair: dict[str, np.ndarray], options: InputOptions, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Crop, mirror and turn both images alike."""
    height, width = pair["blur"].shape[:2]
    if options.crop:
        top = int(rng.integers(height - options.crop + 1))
        left = int(rng.integers(width - options.crop + 1))
        window = np.s_[top : top + options.crop, left : left + options.crop]
        pair = {key: image[window] for key, image in pair.items()}
    if options.flip_and_turn:
        # A frame that is not square keeps its shape: half turns only.
        square = pair["blur"].shape[0] == pair["blur"].shape[1]
        turns = int(rng.integers(4)) if square else 2 * int(rng.integers(2))
        mirror = bool(rng.integers(2))
        pair = {key: np.rot90(image[:, ::-1] if mirror else image, turns) for key, image in pair.items()}
    return {key: np.ascontiguousarray(image) for key, image in pair.items()}
