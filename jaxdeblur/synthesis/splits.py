"""Assigns scenes to `train`, `validation` and `test`: by name, or at random by shares."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from jaxdeblur.errors import InputError, list_problems

SPLITS = ("train", "validation", "test")


def assign_splits(
    names: Iterable[str], named: Mapping[str, Sequence[str]], shares: Mapping[str, float], seed: int
) -> dict[str, str]:
    """Return each scene's split.

    Scenes in `named` go to that split; of the others, each split in `shares` gets its `split_counts`, drawn at random,
    and the rest goes to `train`, or to the largest share where nothing is left to train on.

    Args:
        names: all scenes.
        named: scenes of `validation` and `test` by name; a split that is missing here is drawn.
        shares: shares of all scenes of the splits to draw.
        seed: of the draw.

    Raises:
        InputError: a name is unknown ("scene-unknown") or in two splits ("scene-in-two-splits"), a share is invalid
            ("share-invalid"), or there are too few scenes ("too-few-scenes").
    """
    names = sorted(names)
    splits = check_named(names, named)
    check_shares(shares)
    unnamed = [name for name in names if name not in splits]
    trains = leaves_training_scenes(unnamed, shares)
    counts = split_counts(len(names), unnamed, shares, num_training=int(trains))
    shuffled = [unnamed[index] for index in np.random.default_rng(seed).permutation(len(unnamed))]
    for split, count in counts.items():
        splits |= dict.fromkeys(shuffled[:count], split)
        shuffled = shuffled[count:]
    rest = "train" if trains or not counts else max(shares, key=lambda split: shares[split])
    return splits | dict.fromkeys(shuffled, rest)


def check_named(names: Sequence[str], named: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Return the split of each named scene.

    Raises:
        InputError: a name is unknown or in two splits.
    """
    splits = {name: split for split, scenes in named.items() for name in scenes}
    unknown = sorted(splits.keys() - set(names))
    if unknown:
        raise InputError(
            list_problems("no such scene:", unknown, f"Scenes found: {', '.join(names[:20])}."), code="scene-unknown"
        )
    if sum(len(set(scenes)) for scenes in named.values()) > len(splits):
        raise InputError(
            "a scene is named for both validation and test; it can be in one split only.", code="scene-in-two-splits"
        )
    return splits


def check_shares(shares: Mapping[str, float]) -> None:
    """Refuse shares outside 0 to 1, or above 1 in total.

    Raises:
        InputError: names them.
    """
    if any(not 0 <= share <= 1 for share in shares.values()) or sum(shares.values()) > 1:
        listed = ", ".join(f"{split} {share:g}" for split, share in shares.items())
        raise InputError(f"shares of {listed}: expected 0 to 1 each, and at most 1 together.", code="share-invalid")


def leaves_training_scenes(unnamed: Sequence[str], shares: Mapping[str, float]) -> bool:
    """Return whether at least one scene must remain to train on.

    Not if the shares add up to 1, or if all scenes are named and nothing is drawn: a data set to test on only.
    """
    return sum(shares.values()) != 1 and (bool(unnamed) or any(shares.values()))


def split_counts(
    num_scenes: int, unnamed: Sequence[str], shares: Mapping[str, float], *, num_training: int
) -> dict[str, int]:
    """Return the number of scenes to draw for each split with a share above 0.

    Each is round(share * num_scenes), but at least 1; the largest are reduced until `num_training` scenes remain.

    Raises:
        InputError: there are too few scenes for one per split.
    """
    counts = {split: max(1, round(share * num_scenes)) for split, share in shares.items() if share}
    if len(counts) + num_training > len(unnamed):
        wanted = [*counts, "train"] if num_training else list(counts)
        raise InputError(
            f"{len(unnamed)} scene(s) to divide among {', '.join(wanted)}, none in two of them: {', '.join(unnamed)}. "
            "Add scenes, or leave out a split with --test_share 0, --validation_share 0; --test_share 1 "
            "--validation_share 0 creates a test set only.",
            code="too-few-scenes",
        )
    while sum(counts.values()) + num_training > len(unnamed):
        counts[max(counts, key=lambda split: counts[split])] -= 1
    return counts
