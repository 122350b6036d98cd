"""From a source of pairs to batches, with grain: uint8 RGB, (B, H, W, 3), scaled to [0, 1] only on the device.

What training step s sees is a pure function of (seed, s): batch s of an endless stream of reshuffled epochs, whose
augmentation is drawn from (seed, position). So the step is the data position, and no iterator state needs saving.
Several processes read each their own part of that batch.
"""

import dataclasses
import functools
from collections.abc import Iterator, Sequence

import grain
import numpy as np

from jaxdeblur.data.images import resize_image
from jaxdeblur.data.sources import PairSource
from jaxdeblur.errors import InputError

ENDLESS = 2**62  # examples; the largest length that grain can still add to


@dataclasses.dataclass(frozen=True)
class InputOptions:
    """How an image pair becomes the network's input.

    Attributes:
        resize: side in pixels of the square that the whole frame is resized to; 0 leaves it as it is.
        resize_filter: name of Pillow's filter, antialiased when it shrinks.
        flip_and_turn: in training, mirror at random and turn by a random multiple of 90 degrees.
    """

    resize: int
    resize_filter: str
    flip_and_turn: bool


def make_train_batches(
    source: PairSource,
    options: InputOptions,
    *,
    crop: int,
    batch_size: int,
    seed: int,
    first_step: int,
    num_threads: int,
    process_index: int,
    process_count: int,
) -> Iterator[dict[str, np.ndarray]]:
    """Return an endless iterator over one process's part of the batches, from the one of `first_step` on.

    Args:
        source: training pairs.
        options: how pairs become inputs.
        crop: side in pixels of a random square of the (resized) frame; 0 takes it whole.
        batch_size: images per step over all processes; a multiple of `process_count`.
        seed: of the order and the augmentation.
        first_step: steps already taken.
        num_threads: threads that read and augment.
        process_index: which part of each batch.
        process_count: how many parts there are; one after another they are the batch that a single process reads.

    Yields:
        `blur` and `sharp`, both (batch_size / process_count, H, W, 3) uint8.
    """
    examples = _TrainExamples(source, options, crop, batch_size, seed, process_index, process_count)
    dataset = grain.MapDataset.source(examples).batch(examples.part_size, batch_fn=_stack)
    iterator = iter(dataset.to_iter_dataset(_read_options(num_threads)))
    iterator.set_state({"next_index": first_step})
    return iterator


def make_eval_pairs(
    source: PairSource, options: InputOptions, *, num_threads: int, first: int = 0, end: int | None = None
) -> Iterator[dict]:
    """Return an iterator over the pairs `first` to `end` - 1 (all) in order, resized but neither cropped nor augmented.

    Yields:
        `blur` and `sharp`, both (H, W, 3) uint8, and `sequence` and `frame`.
    """
    part = grain.MapDataset.source(source).slice(slice(first, len(source) if end is None else end))
    if not len(part):
        return iter(())
    dataset = part.map(lambda pair: {**pair, **_resize_pair(pair, options)})
    return iter(dataset.to_iter_dataset(_read_options(num_threads)))


def steps_per_epoch(num_pairs: int, batch_size: int) -> int:
    """Return the batches that an epoch counts.

    Raises:
        InputError: there are fewer pairs than a batch holds.
    """
    if num_pairs < batch_size:
        raise InputError(f"data.batch_size: {batch_size}, but only {num_pairs} training pairs. Lower it.")
    return num_pairs // batch_size


def check_sizes(source: PairSource, resize: int, crops: Sequence[int]) -> None:
    """Refuse pairs that cannot be cropped, or that cannot share a batch, before training starts.

    Args:
        source: training pairs.
        resize: side in pixels that frames are resized to; 0 for none.
        crops: side in pixels of each stage's crops; 0 for none.

    Raises:
        InputError: names the fields and the sizes.
    """
    sizes = {(resize, resize)} if resize else {*source.sizes}
    smallest = min(min(size) for size in sizes)
    words = f"data.resize, {resize}" if resize else f"the smallest training image, {smallest} pixels"
    problems = []
    for i, crop in enumerate(crops):
        if crop > smallest:
            problems.append(f"stages[{i}].crop: {crop} is larger than {words}. Lower it.")
        if not crop and len(sizes) > 1:
            found = ", ".join(f"{width}x{height}" for height, width in sorted(sizes)[:5])
            problems.append(
                f"Training images have {len(sizes)} sizes ({found}{', ...' if len(sizes) > 5 else ''}) and cannot "
                f"share a batch. Set stages[{i}].crop or data.resize."
            )
    if problems:
        raise InputError("\n".join(problems))


def _read_options(num_threads: int) -> grain.ReadOptions:
    # Grain warns when the buffer is smaller than the number of threads; a deep buffer only costs memory.
    return grain.ReadOptions(num_threads=num_threads, prefetch_buffer_size=2 * num_threads)


class _TrainExamples:
    """The endless stream of examples that one process needs: its equal, consecutive part of every batch."""

    def __init__(
        self,
        source: PairSource,
        options: InputOptions,
        crop: int,
        batch_size: int,
        seed: int,
        process_index: int,
        process_count: int,
    ):
        self.source, self.options, self.crop = source, options, crop
        self.batch_size, self.seed = batch_size, seed
        self.part_size = batch_size // process_count
        self.start = process_index * self.part_size

    def __len__(self) -> int:
        return ENDLESS

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        step, place = divmod(index, self.part_size)
        position = step * self.batch_size + self.start + place
        epoch, place = divmod(position, len(self.source))
        pair = int(_epoch_order(self.seed, epoch, len(self.source))[place])
        return _read_example(self.source, pair, self.options, self.crop, np.random.default_rng([self.seed, position]))


# Grain's own shuffle takes 0.5 ms an image on small data sets; this order is kept while an epoch lasts.
@functools.lru_cache(maxsize=4)
def _epoch_order(seed: int, epoch: int, length: int) -> np.ndarray:
    # One number more than an example's generator is made from: no two streams are the same.
    return np.random.default_rng([seed, epoch, length]).permutation(length)


def _read_example(
    source: PairSource, index: int, options: InputOptions, crop: int, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """Read a pair, cropped, mirrored and turned at random, both images alike."""
    height, width = (options.resize, options.resize) if options.resize else source.sizes[index]
    window = np.s_[:, :]
    if crop:
        top, left = (int(rng.integers(side - crop + 1)) for side in (height, width))
        window = np.s_[top : top + crop, left : left + crop]
        height = width = crop
    if options.resize:
        pair = {key: image[window] for key, image in _resize_pair(source[index], options).items()}
    else:
        pair = source.read(index, window)
    if options.flip_and_turn:
        # A frame that is not square keeps its shape: half turns only.
        turns = int(rng.integers(4)) if height == width else 2 * int(rng.integers(2))
        mirror = bool(rng.integers(2))
        pair = {key: np.rot90(pair[key][:, ::-1] if mirror else pair[key], turns) for key in ("blur", "sharp")}
    return pair


def _stack(pairs: Sequence[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Return a batch; one array for both halves, since the system hands out large arrays in large pages, 20x faster."""
    batch = np.empty((2, len(pairs), *pairs[0]["blur"].shape), np.uint8)
    for i, pair in enumerate(pairs):
        batch[0, i], batch[1, i] = pair["blur"], pair["sharp"]
    return {"blur": batch[0], "sharp": batch[1]}


def _resize_pair(pair: dict, options: InputOptions) -> dict[str, np.ndarray]:
    images = {key: pair[key] for key in ("blur", "sharp")}
    if not options.resize:
        return images
    return {key: resize_image(image, options.resize, options.resize_filter) for key, image in images.items()}
