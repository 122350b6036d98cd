"""Training pairs of several sources in one stream: how others are opened, and which place of a batch holds whose pair.

Each batch holds every source's share of it, rounded so that the shares are exact in the long run, at places drawn at
random. All of it is a pure function of (seed, step), in exact arithmetic.
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
from jaxdeblur.data.paired_folders import open_folder
from jaxdeblur.data.sources import PairSource, name_data_set
from jaxdeblur.errors import InputError


@dataclasses.dataclass(frozen=True)
class Part:
    """Training pairs that are mixed in.

    Attributes:
        source: the pairs.
        options: how they become inputs.
        share: of the examples of all batches, between 0 and 1.
        field: where the config says so, as `data.mixture[0]`.
        data_set: what reports call the data.
    """

    source: PairSource
    options: InputOptions
    share: float
    field: str
    data_set: str


@dataclasses.dataclass(frozen=True)
class MixtureOptions:
    """Training pairs of another source, which make up `share` of every batch.

    Attributes:
        root: folder of the pairs, or prepared data.
        share: between 0 and 1.
        blur: name of the blurred images: 'blur' or 'blur_gamma'.
        inputs: how they become inputs.
    """

    root: Path
    share: float
    blur: str
    inputs: InputOptions


def open_part(options: MixtureOptions, field: str, *, skip_bad: bool, crop: int) -> Part:
    """Open the training pairs of an entry of `data.mixture`: those in `train`, or all if nothing is split.

    Args:
        options: the entry.
        field: the entry's name in error messages.
        skip_bad: skip invalid pairs.
        crop: size in pixels of the largest random crop.

    Raises:
        InputError: a folder, a file or a pair is invalid.
    """
    root, inputs = options.root, options.inputs
    if is_prepared(root):
        form = {"resize": inputs.resize, "resize_filter": inputs.resize_filter, "full_frames": inputs.rescales}
        source = open_prepared(root, blur=options.blur, section=field, **form)["train"]
    else:
        folder = _training_folder(root, f"{field}.root")
        source = open_folder(folder, options.blur, skip_bad=skip_bad, least_side=inputs.frame_side(crop))
    return Part(source, inputs, options.share, field, name_data_set(root, source))


def leave_out_scored(part: Part, scored: Iterable[PairSource]) -> Part:
    """Return a part without the sequences that share an image with the pairs that a run is judged on.

    Images are known by the SHA-256 of their files, so a copy under another name is found, but not one stored anew.

    Raises:
        InputError: nothing is left.
    """
    seen = {digest for source in scored for digests in source.digests for digest in digests}
    named = zip(part.source.names, part.source.digests, strict=True)
    shared = {sequence for (sequence, _), digests in named if not seen.isdisjoint(digests)}
    if not shared:
        return part
    left = part.source.select(lambda sequence, frame: sequence not in shared)
    words = f"{part.field}.root: {len(shared)} sequence(s) share images with the pairs for validation or test"
    if not len(left):
        raise InputError(f"{words}, and nothing else is there. Choose other data, or take the entry out.")
    say(f"{words}; left out, with {len(part.source) - len(left)} pairs. {len(left)} are left.")
    return dataclasses.replace(part, source=left)


def _training_folder(root: Path, field: str) -> Path:
    if not root.is_dir():
        raise InputError(
            f"{field}: {root} is no folder; expected prepared data, a folder that holds `train`, or one that holds "
            "pairs without splits. `make data/made` makes that of the recommended recipes; without it they train with "
            "--config.data.mixture='()'."
        )
    if (root / "train").is_dir():
        return root / "train"
    if splits := [name for name in ("validation", "test") if (root / name).is_dir()]:
        raise InputError(f"{field}: {root} has no folder train (found: {', '.join(splits)}). Add it.")
    return root


def place_example(seed: int, position: int, batch_size: int, shares: Sequence[float]) -> tuple[int, int]:
    """Return which source the example at a position comes from (0: the main one), and how many came from it before.

    Args:
        seed: of the places in a batch.
        position: of the example in the endless stream, from 0.
        batch_size: examples per step over all processes.
        shares: of the sources beside the main one, which has what they leave.
    """
    if not shares:
        return 0, position
    step, place = divmod(position, batch_size)
    chosen, ranks = _plan_batch(seed, step, batch_size, tuple(shares))
    return int(chosen[place]), int(ranks[place])


# As many steps as threads work on at once, give or take: an example is asked for by itself.
@functools.lru_cache(maxsize=256)
def _plan_batch(seed: int, step: int, batch_size: int, shares: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Return the source of each place of a batch, and the number of earlier examples of that source."""
    before, after = (_count_examples(end * batch_size, shares) for end in (step, step + 1))
    chosen = np.repeat(np.arange(len(before)), np.subtract(after, before))
    # Places are drawn, so that the parts of processes and micro-batches are mixed too. Seeded by five numbers of which
    # the last is not zero, unlike any other generator of the run (see `_epoch_order` in pipeline.py).
    chosen = np.random.default_rng([seed, step, batch_size, 0, 1]).permutation(chosen)
    ranks = np.empty(batch_size, np.int64)
    for number, count in enumerate(before):
        ranks[chosen == number] = count + np.arange(after[number] - count)
    return chosen, ranks


def _count_examples(position: int, shares: Sequence[float]) -> list[int]:
    """Return how many of the examples before a position come from each source, the main one first.

    One source after another takes its share of what the ones before it have left, rounded down: no count ever shrinks.
    """
    counts, left, unclaimed = [], position, Fraction(1)
    for share in (Fraction(str(share)) for share in shares):
        counts.append(left * share // unclaimed)
        left -= counts[-1]
        unclaimed -= share
    return [left, *counts]
