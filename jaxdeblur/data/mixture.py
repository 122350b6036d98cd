"""Training on a mixture of sources: opening `data.mixture`, and assigning examples of a batch to sources.

Each batch holds every source's share, rounded such that shares are exact in the long run, at random positions. The
assignment is a pure function of (seed, step), in exact arithmetic.
"""

import dataclasses
import functools
from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np

from jaxdeblur.console import say
from jaxdeblur.data.array_records import is_prepared, open_prepared
from jaxdeblur.data.augment import InputOptions
from jaxdeblur.data.pair_source import PairSource
from jaxdeblur.data.paired_folders import open_folder
from jaxdeblur.data.sources import name_data_set
from jaxdeblur.errors import InputError


@dataclasses.dataclass(frozen=True)
class Part:
    """An additional source of training pairs.

    Attributes:
        source: pairs.
        options: how they become inputs.
        share: of all training examples, between 0 and 1.
        field: its config field, such as `data.mixture[0]`.
        data_set: name of the data set for reports.
    """

    source: PairSource
    options: InputOptions
    share: float
    field: str
    data_set: str


@dataclasses.dataclass(frozen=True)
class MixtureOptions:
    """An entry of `data.mixture`: additional training pairs.

    Attributes:
        root: folder of the pairs, or prepared data.
        share: of every batch, between 0 and 1.
        blur_variant: 'blur' or 'blur_gamma'.
        inputs: how they become inputs.
    """

    root: Path
    share: float
    blur_variant: str
    inputs: InputOptions


def open_part(options: MixtureOptions, field: str, *, skip_invalid: bool, crop: int) -> Part:
    """Open the training pairs of an entry of `data.mixture`: those in `train`, or all where there are no splits.

    Args:
        options: the entry.
        field: name of the entry, for error messages.
        skip_invalid: leave out invalid pairs.
        crop: side in pixels of the largest random crop.

    Raises:
        InputError: a folder, file or pair is wrong.
    """
    root, inputs = options.root, options.inputs
    source: PairSource
    if is_prepared(root):
        source = open_prepared(
            root,
            blur_variant=options.blur_variant,
            resize=inputs.resize,
            resize_filter=inputs.resize_filter,
            full_frames=inputs.reads_windows,
            section=field,
        )["train"]
    else:
        source = open_folder(
            _training_folder(root, f"{field}.root"),
            options.blur_variant,
            skip_invalid=skip_invalid,
            min_side=inputs.frame_side(crop),
        )
    return Part(source, inputs, options.share, field, name_data_set(root, source))


def exclude_scored(part: Part, scored: Iterable[PairSource]) -> Part:
    """Return a part without the sequences that share an image with validation or test pairs.

    Images are compared by the SHA-256 of their files: renamed copies are detected, re-encoded ones are not.

    Raises:
        InputError: no pair remains (code "no-training-pairs").
    """
    scored_digests = {digest for source in scored for digests in source.digests for digest in digests}
    named = zip(part.source.names, part.source.digests, strict=True)
    shared = {sequence for (sequence, _), digests in named if not scored_digests.isdisjoint(digests)}
    if not shared:
        return part
    remaining = part.source.select(lambda sequence, frame: sequence not in shared)
    finding = f"{part.field}.root: {len(shared)} sequence(s) share images with validation or test pairs"
    if not len(remaining):
        raise InputError(
            f"{finding}, and there are no others. Use other data, or remove the entry.", code="no-training-pairs"
        )
    say(f"{finding}; excluded, with {len(part.source) - len(remaining)} pairs. {len(remaining)} remain.")
    return dataclasses.replace(part, source=remaining)


def _training_folder(root: Path, field: str) -> Path:
    if not root.is_dir():
        raise InputError(
            f"{field}: {root} is not a folder; expected prepared data, a folder that holds `train`, or one that holds "
            "pairs without splits. `make data/made` creates that of the recommended recipes; to train without it, pass "
            "--config.data.mixture='()'.",
            code="no-data-folder",
        )
    if (root / "train").is_dir():
        return root / "train"
    if splits := [name for name in ("validation", "test") if (root / name).is_dir()]:
        raise InputError(
            f"{field}: {root} has no folder train (found: {', '.join(splits)}). Add it.", code="no-split-folder"
        )
    return root


def assign_example(seed: int, position: int, batch_size: int, shares: Sequence[float]) -> tuple[int, int]:
    """Return the source of the example at a position (0: the main one), and the number of its earlier examples.

    Args:
        seed: of the positions in a batch.
        position: of the example in the endless stream, from 0.
        batch_size: examples per step over all processes.
        shares: of the additional sources; the main one has the rest.
    """
    if not shares:
        return 0, position
    step, offset = divmod(position, batch_size)
    sources, ranks = _plan_batch(seed, step, batch_size, tuple(shares))
    return int(sources[offset]), int(ranks[offset])


# Examples are requested one by one; the cache covers the steps that threads work on at the same time.
@functools.lru_cache(maxsize=256)
def _plan_batch(seed: int, step: int, batch_size: int, shares: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Return the source of each example of a batch, and the number of earlier examples of that source; (B,) each."""
    before, after = (_count_examples(end * batch_size, shares) for end in (step, step + 1))
    sources = np.repeat(np.arange(len(before)), np.subtract(after, before))
    # Shuffled, so that the parts of processes and micro-batches are mixed too. The seed has five numbers, the last of
    # which is not zero, unlike any other generator of the run (see `_epoch_order` in pipeline.py).
    sources = np.random.default_rng([seed, step, batch_size, 0, 1]).permutation(sources)
    ranks = np.empty(batch_size, np.int64)
    for source, count in enumerate(before):
        ranks[sources == source] = count + np.arange(after[source] - count)
    return sources, ranks


def _count_examples(position: int, shares: Sequence[float]) -> list[int]:
    """Return the number of examples of each source before a position, the main one first.

    Sources in turn take their share of what is left by those before, rounded down, so no count ever decreases.
    """
    counts: list[int] = []
    left, unclaimed = position, Fraction(1)
    for share in (Fraction(str(share)) for share in shares):
        counts.append(left * share // unclaimed)
        left -= counts[-1]
        unclaimed -= share
    return [left, *counts]
