"""From a source of pairs to batches, with grain: uint8 RGB, (B, H, W, 3), scaled to [0, 1] only on the device.

What training step s sees is a pure function of (seed, s): batch s of an endless stream of reshuffled epochs, whose
augmentation is drawn from (seed, position). So the step is the data position, and no iterator state needs saving.
Several processes read each their own part of that batch.
"""

import functools
from collections.abc import Iterator, Sequence

import grain
import numpy as np

from jaxdeblur.data.augment import InputOptions, read_example, resize_pair
from jaxdeblur.data.mixture import Part, place_example
from jaxdeblur.data.sources import PairSource
from jaxdeblur.errors import InputError

ENDLESS = 2**62  # examples; the largest length that grain can still add to


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
    mixture: Sequence[Part] = (),
) -> Iterator[dict[str, np.ndarray]]:
    """Return an endless iterator over one process's part of the batches, from the one of `first_step` on.

    Args:
        source: training pairs.
        options: how they become inputs.
        crop: side in pixels of a random square of the (resized) frame; 0 takes it whole.
        batch_size: images per step over all processes; a multiple of `process_count`.
        seed: of the order and the augmentation.
        first_step: steps already taken.
        num_threads: threads that read and augment.
        process_index: which part of each batch.
        process_count: how many parts there are; one after another they are the batch that a single process reads.
        mixture: further training pairs and their shares of each batch; `source` has what they leave.

    Yields:
        `blur` and `sharp`, both (batch_size / process_count, H, W, 3) uint8.
    """
    sources = [(source, options), *((part.source, part.options) for part in mixture)]
    shares = [part.share for part in mixture]
    examples = _TrainExamples(sources, shares, crop, batch_size, seed, process_index, process_count)
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
    dataset = part.map(lambda pair: {**pair, **resize_pair(pair, options)})
    return iter(dataset.to_iter_dataset(_read_options(num_threads)))


def steps_per_epoch(num_pairs: int, batch_size: int, epoch_images: int) -> int:
    """Return the batches that an epoch counts: as many as fit into `epoch_images`, or into all pairs where that is 0.

    Raises:
        InputError: there are fewer pairs than a batch holds, or an epoch would be no step.
    """
    if num_pairs < batch_size:
        raise InputError(f"data.batch_size: {batch_size}, but only {num_pairs} training pairs. Lower it.")
    if 0 < epoch_images < batch_size:
        raise InputError(
            f"data.epoch_images: {epoch_images}, but a batch has {batch_size} images (data.batch_size). Raise it, or "
            "set it to 0 for all training pairs."
        )
    return (epoch_images or num_pairs) // batch_size


def check_sizes(source: PairSource, options: InputOptions, crops: Sequence[int], mixture: Sequence[Part] = ()) -> None:
    """Refuse pairs that cannot be cropped, or that cannot share a batch, before training starts.

    Args:
        source: training pairs.
        options: how they become inputs.
        crops: side in pixels of each stage's crops; 0 for none.
        mixture: further training pairs.

    Raises:
        InputError: names the fields and the sizes.
    """
    parts = [("data", source, options), *((part.field, part.source, part.options) for part in mixture)]
    problems = [problem for part in parts for problem in _crop_problems(*part, crops)]
    sizes = {size: field for field, pairs, own in parts for size in _input_sizes(pairs, own)}
    for i, crop in enumerate(crops):
        if not crop and len(sizes) > 1:
            found = ", ".join(f"{width}x{height}" for height, width in sorted(sizes)[:5])
            fields = ", ".join(f"{field}.resize" for field in dict.fromkeys(sizes.values()))
            problems.append(
                f"Training images have {len(sizes)} sizes ({found}{', ...' if len(sizes) > 5 else ''}) and cannot "
                f"share a batch. Set stages[{i}].crop or {fields}."
            )
    if problems:
        raise InputError("\n".join(problems))


def _input_sizes(source: PairSource, options: InputOptions) -> set[tuple[int, int]]:
    return {(options.resize, options.resize)} if options.resize else {*source.sizes}


def _crop_problems(field: str, source: PairSource, options: InputOptions, crops: Sequence[int]) -> Iterator[str]:
    smallest = min(min(size) for size in _input_sizes(source, options))
    words = f"{field}.resize, {options.resize}"
    if not options.resize:
        whose = "" if field == "data" else f" of {field}"
        words = f"the smallest training image{whose}, {smallest} pixels"
    for i, crop in enumerate(crops):
        if crop > smallest:
            yield f"stages[{i}].crop: {crop} is larger than {words}. Lower it."
        elif (needed := options.frame_side(crop)) > smallest:
            yield (
                f"stages[{i}].crop: {crop} takes up to {needed} pixels of a frame ({field}.rescale, {field}.stretch), "
                f"more than {words}, has. Lower it, or raise {field}.rescale."
            )


def _read_options(num_threads: int) -> grain.ReadOptions:
    # Grain warns when the buffer is smaller than the number of threads; a deep buffer only costs memory.
    return grain.ReadOptions(num_threads=num_threads, prefetch_buffer_size=2 * num_threads)


class _TrainExamples:
    """The endless stream of examples that one process needs: its equal, consecutive part of every batch."""

    def __init__(
        self,
        sources: Sequence[tuple[PairSource, InputOptions]],
        shares: Sequence[float],
        crop: int,
        batch_size: int,
        seed: int,
        process_index: int,
        process_count: int,
    ):
        self.sources, self.shares, self.crop = sources, shares, crop
        self.batch_size, self.seed = batch_size, seed
        self.part_size = batch_size // process_count
        self.start = process_index * self.part_size

    def __len__(self) -> int:
        return ENDLESS

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        step, place = divmod(index, self.part_size)
        position = step * self.batch_size + self.start + place
        chosen, rank = place_example(self.seed, position, self.batch_size, self.shares)
        source, options = self.sources[chosen]
        epoch, place = divmod(rank, len(source))
        pair = int(_epoch_order(self.seed, epoch, len(source), chosen)[place])
        return read_example(source, pair, options, self.crop, np.random.default_rng([self.seed, position]))


# Grain's own shuffle takes 0.5 ms an image on small data sets; this order is kept while an epoch lasts.
@functools.lru_cache(maxsize=8)
def _epoch_order(seed: int, epoch: int, length: int, source: int) -> np.ndarray:
    # NumPy pads the numbers of a seed with zeros: [seed, position] and [seed, position, 0] are one stream. An example's
    # generator is seeded by [seed, position]; this has a third number that is not zero, the length, so that no two
    # streams are the same (positions below 2^32). A seed of other numbers, or SeedSequence's `spawn_key`, would be
    # cleaner and would change the order of images, and so what a run that is under way goes on with. Of two sources of
    # one length each has its own order.
    own = [source] if source else []
    return np.random.default_rng([seed, epoch, length, *own]).permutation(length)


def _stack(pairs: Sequence[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Return a batch; one array for both halves, since the system hands out large arrays in large pages, 20x faster."""
    batch = np.empty((2, len(pairs), *pairs[0]["blur"].shape), np.uint8)
    for i, pair in enumerate(pairs):
        batch[0, i], batch[1, i] = pair["blur"], pair["sharp"]
    return {"blur": batch[0], "sharp": batch[1]}
