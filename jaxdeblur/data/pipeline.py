"""Batches of image pairs with grain: uint8 RGB, (B, H, W, 3); scaled to [0, 1] on the device.

The batch of training step s is a pure function of (seed, s): batch s of an endless stream of reshuffled epochs, with
augmentation drawn from (seed, position). The step is therefore the data position, and no iterator state is saved. Each
process reads its own part of a batch.
"""

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import grain
import numpy as np

from jaxdeblur.data.augment import InputOptions, read_example, resize_pair
from jaxdeblur.data.mixture import Part, assign_example
from jaxdeblur.data.pair_source import ImagePair, NamedPair, PairSource
from jaxdeblur.errors import InputError

ENDLESS = 2**62  # examples; the largest length that grain can still add to


@dataclasses.dataclass(frozen=True)
class BatchOptions:
    """How training batches are formed.

    Attributes:
        crop: side in pixels of a random square of the (resized) frame; 0 for the whole frame.
        batch_size: images per step over all processes; a multiple of `process_count`.
        seed: of order and augmentation.
        num_threads: threads that read and augment.
        process_index: which of `process_count` consecutive, equal parts of each batch to read.
        process_count: number of parts.
    """

    crop: int
    batch_size: int
    seed: int
    num_threads: int
    process_index: int = 0
    process_count: int = 1


class _Source(NamedTuple):
    pairs: PairSource
    options: InputOptions


def make_train_batches(
    source: PairSource,
    options: InputOptions,
    batches: BatchOptions,
    *,
    first_step: int,
    mixture: Sequence[Part] = (),
) -> Iterator[ImagePair]:
    """Return an endless iterator over one process's part of the batches, starting with that of `first_step`.

    Args:
        source: training pairs.
        options: how they become inputs.
        batches: size and order of the batches.
        first_step: number of steps already taken.
        mixture: additional training pairs with their shares; the rest of each batch is from `source`.

    Yields:
        `blur` and `sharp`, both (batch_size / process_count, H, W, 3) uint8.
    """
    sources = [_Source(source, options), *(_Source(part.source, part.options) for part in mixture)]
    examples = _TrainExamples(sources, [part.share for part in mixture], batches)
    dataset = grain.MapDataset.source(examples).batch(examples.part_size, batch_fn=_stack)
    iterator = iter(dataset.to_iter_dataset(_read_options(batches.num_threads)))
    iterator.set_state({"next_index": first_step})
    return iterator


def make_eval_pairs(
    source: PairSource, options: InputOptions, *, num_threads: int, first: int = 0, end: int | None = None
) -> Iterator[NamedPair]:
    """Return an iterator over the pairs `first` to `end` - 1 (default: all) in order, resized but not augmented.

    Yields:
        `blur` and `sharp`, both (H, W, 3) uint8, with `sequence` and `frame`.
    """
    pairs = grain.MapDataset.source(source).slice(slice(first, len(source) if end is None else end))
    if not len(pairs):
        return iter(())
    dataset = pairs.map(lambda pair: {**pair, **resize_pair(pair, options)})
    return iter(dataset.to_iter_dataset(_read_options(num_threads)))


def steps_per_epoch(num_pairs: int, batch_size: int, epoch_images: int) -> int:
    """Return the whole batches in an epoch of `epoch_images`, or of all pairs where that is 0.

    Raises:
        InputError: there are fewer pairs, or fewer images in an epoch, than in a batch (code "batch-too-large").
    """
    if num_pairs < batch_size:
        raise InputError(
            f"data.batch_size: {batch_size}, but there are only {num_pairs} training pairs. Lower it.",
            code="batch-too-large",
        )
    if 0 < epoch_images < batch_size:
        raise InputError(
            f"data.epoch_images: {epoch_images}, but a batch has {batch_size} images (data.batch_size). Raise it, or "
            "set it to 0 for all training pairs.",
            code="batch-too-large",
        )
    return (epoch_images or num_pairs) // batch_size


def check_sizes(source: PairSource, options: InputOptions, crops: Sequence[int], mixture: Sequence[Part] = ()) -> None:
    """Refuse pairs that are too small for a crop or cannot share a batch, before training starts.

    Args:
        source: training pairs.
        options: how they become inputs.
        crops: side in pixels of each stage's crops; 0 for none.
        mixture: additional training pairs.

    Raises:
        InputError: names fields and sizes (code "sizes-do-not-fit").
    """
    parts = [("data", source, options), *((part.field, part.source, part.options) for part in mixture)]
    problems = [problem for part in parts for problem in _crop_problems(*part, crops)]
    sizes = {size: field for field, pairs, inputs in parts for size in _input_sizes(pairs, inputs)}
    for i, crop in enumerate(crops):
        if not crop and len(sizes) > 1:
            listed = ", ".join(f"{width}x{height}" for height, width in sorted(sizes)[:5])
            fields = ", ".join(f"{field}.resize" for field in dict.fromkeys(sizes.values()))
            problems.append(
                f"Training images have {len(sizes)} sizes ({listed}{', ...' if len(sizes) > 5 else ''}) and cannot "
                f"share a batch. Set stages[{i}].crop or {fields}."
            )
    if problems:
        raise InputError("\n".join(problems), code="sizes-do-not-fit")


def _input_sizes(source: PairSource, options: InputOptions) -> set[tuple[int, int]]:
    return {(options.resize, options.resize)} if options.resize else {*source.sizes}


def _crop_problems(field: str, source: PairSource, options: InputOptions, crops: Sequence[int]) -> Iterator[str]:
    smallest = min(min(size) for size in _input_sizes(source, options))
    limit = f"{field}.resize, {options.resize}"
    if not options.resize:
        owner = "" if field == "data" else f" of {field}"
        limit = f"the smallest training image{owner}, {smallest} pixels"
    for i, crop in enumerate(crops):
        if crop > smallest:
            yield f"stages[{i}].crop: {crop} is larger than {limit}. Lower it."
        elif (needed := options.frame_side(crop)) > smallest:
            yield (
                f"stages[{i}].crop: {crop} needs up to {needed} pixels of a frame ({field}.zoom, "
                f"{field}.aspect_jitter), more than {limit}. Lower it, or raise {field}.zoom."
            )


def _read_options(num_threads: int) -> grain.ReadOptions:
    # Grain warns if the buffer is smaller than the number of threads; a deeper buffer only costs memory.
    return grain.ReadOptions(num_threads=num_threads, prefetch_buffer_size=2 * num_threads)


class _TrainExamples:
    """The endless stream of examples of one process: its part of every batch."""

    def __init__(self, sources: Sequence[_Source], shares: Sequence[float], batches: BatchOptions):
        self._sources, self._shares, self._batches = sources, shares, batches
        self.part_size = batches.batch_size // batches.process_count
        self._part_start = batches.process_index * self.part_size

    def __len__(self) -> int:
        return ENDLESS

    def __getitem__(self, index: int) -> ImagePair:
        seed, batch_size = self._batches.seed, self._batches.batch_size
        step, offset = divmod(index, self.part_size)
        position = step * batch_size + self._part_start + offset
        number, rank = assign_example(seed, position, batch_size, self._shares)
        pairs, options = self._sources[number]
        epoch, rank_in_epoch = divmod(rank, len(pairs))
        pair = int(_epoch_order(seed, epoch, len(pairs), number)[rank_in_epoch])
        return read_example(pairs, pair, options, self._batches.crop, np.random.default_rng([seed, position]))


# Grain's shuffle takes 0.5 ms per image on small data sets; this order is computed once per epoch.
@functools.lru_cache(maxsize=8)
def _epoch_order(seed: int, epoch: int, length: int, source: int) -> np.ndarray:
    # NumPy pads seeds with zeros: [seed, position] and [seed, position, 0] are one stream. Examples are seeded by
    # [seed, position], so the third number here, the length, is not zero, which keeps all streams apart (positions
    # below 2^32). `SeedSequence.spawn_key` would be cleaner, but change the order of images of runs under way. Sources
    # of equal length differ in the fourth number.
    extra = [source] if source else []
    return np.random.default_rng([seed, epoch, length, *extra]).permutation(length)


def _stack(pairs: Sequence[ImagePair]) -> ImagePair:
    """Stack examples in one array: the kernel backs large arrays by huge pages, which is 20 times faster."""
    batch = np.empty((2, len(pairs), *pairs[0]["blur"].shape), np.uint8)
    for i, pair in enumerate(pairs):
        batch[0, i], batch[1, i] = pair["blur"], pair["sharp"]
    return ImagePair(blur=batch[0], sharp=batch[1])
