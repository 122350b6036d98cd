"""The rules of `data.splits`: which pairs are for training, validation and test."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from jaxdeblur.console import say
from jaxdeblur.data.gopro.archive import NUM_PAIRS
from jaxdeblur.data.pair_source import PairSource
from jaxdeblur.errors import InputError

SPLIT_RULES = ("official", "original", "drawn", "auto", "none")
ORIGINAL_VALIDATION = 500  # entries of the sorted test list

_HOLD_OUT_REMEDY = (
    "Set data.validation_sequences to some of the sequences in train/, but not all; or put validation pairs into a "
    "folder `validation` next to train/."
)


def split_pairs(
    available: Mapping[str, PairSource], rule: str, validation_sequences: Sequence[str], root: Path
) -> dict[str, PairSource]:
    """Return `train`, `validation` and `test` by one of SPLIT_RULES.

    - official: `test` unchanged. Validation is the data's own validation split, else the named sequences of `train`;
      whole sequences, so that no scene is in both.
    - original: all of `train`; of GOPRO_Large's 1,111 test pairs, sorted by sequence and frame, entries 0 to 499 for
      validation and 500 to 1110 for test, as in the project whose published numbers this reproduces. Scenes overlap.
    - drawn: for pairs without splits. A tenth of the sequences, at least one, for test and for validation each, drawn
      by the hash of their names; with fewer than 3 sequences, pairs are drawn instead.
    - auto: the splits that exist; missing ones are drawn from the training pairs as by 'drawn'. Validation is the
      data's own split, else the named sequences, else drawn.
    - none: for pairs without splits that are evaluated but not trained on: all are `test`.

    Args:
        available: `train`, `test` and possibly `validation`; or `all`, for data without splits.
        rule: one of SPLIT_RULES.
        validation_sequences: sequences of `train` to hold out for 'official' and 'auto'.
        root: folder of the data, for messages.

    Raises:
        InputError: the data lacks what the rule needs.
    """
    if rule == "original":
        test_splits = split_original_test(available["test"], has_validation="validation" in available)
        return {"train": available["train"], **test_splits}
    if rule == "drawn":
        return _draw_splits(available["all"], ("test", "validation"))
    if rule == "auto":
        return _complete_splits(available, validation_sequences, root)
    if rule == "none":
        return {"test": available["all"]}
    if "validation" in available:
        say(f"{root}: has its own validation split; data.validation_sequences is ignored.")
        return {split: available[split] for split in ("train", "validation", "test")}
    training, validation = hold_out(available["train"], validation_sequences)
    return {"train": training, "validation": validation, "test": available["test"]}


def hold_out(source: PairSource, sequences: Sequence[str]) -> tuple[PairSource, PairSource]:
    """Split training pairs into (training, validation) by whole sequences, so that no scene is in both.

    Raises:
        InputError: a sequence does not exist (code "validation-sequence-missing"), or all are held out
            ("no-training-pairs").
    """
    present = check_held_out(source, sequences)
    if len({*sequences}) == len(present):
        raise InputError(
            f"data.validation_sequences: all sequences of train/ are held out. {_HOLD_OUT_REMEDY}",
            code="no-training-pairs",
        )
    training = source.select(lambda sequence, frame: sequence not in sequences)
    return training, source.select(lambda sequence, frame: sequence in sequences)


def check_held_out(source: PairSource, sequences: Sequence[str]) -> list[str]:
    """Return the sequences of a source, sorted.

    Raises:
        InputError: a sequence to hold out is not among them, or none is named (code "validation-sequence-missing").
    """
    present = sorted({sequence for sequence, _ in source.names})
    missing = [name for name in sequences if name not in present]
    if missing or not sequences:
        raise InputError(
            f"data.validation_sequences: {', '.join(missing) or 'empty'}; found {', '.join(present)} in train/. "
            f"{_HOLD_OUT_REMEDY}",
            code="validation-sequence-missing",
        )
    return present


def split_original_test(test: PairSource, *, has_validation: bool) -> dict[str, PairSource]:
    """Return `validation` and `test` by the rule 'original'.

    Raises:
        InputError: these are not the pairs of GOPRO_Large (code "not-original-test").
    """
    if len(test) != NUM_PAIRS["test"] or has_validation:
        extra = " and a folder `validation`" if has_validation else ""
        extra += f", {len(test.skipped)} skipped as invalid" if test.skipped else ""
        raise InputError(
            f"data.splits: 'original' divides the {NUM_PAIRS['test']:,} test pairs of GOPRO_Large at entry "
            f"{ORIGINAL_VALIDATION}; found {len(test):,} test pairs{extra}. Set it to 'official'.",
            code="not-original-test",
        )
    validation = {*sorted(test.names)[:ORIGINAL_VALIDATION]}
    return {
        "validation": test.select(lambda *name: name in validation),
        "test": test.select(lambda *name: name not in validation),
    }


def _complete_splits(
    available: Mapping[str, PairSource], validation_sequences: Sequence[str], root: Path
) -> dict[str, PairSource]:
    """Apply the rule 'auto'."""
    complete = {split: available[split] for split in ("validation", "test") if split in available}
    training = available["all"] if "all" in available else available["train"]
    if "validation" not in complete and validation_sequences:
        training, complete["validation"] = hold_out(training, validation_sequences)
    missing = tuple(split for split in ("test", "validation") if split not in complete)
    if not missing:
        return {"train": training, **complete}
    drawn = _draw_splits(training, missing)
    for split in missing:
        sequences = sorted({sequence for sequence, _ in drawn[split].names})
        listed = ", ".join(sequences[:10]) + (", ..." if len(sequences) > 10 else "")
        say(f"{root}: has no {split} split; {len(drawn[split])} pairs were drawn for it, from {listed}.")
    return {**drawn, **complete}


def _draw_splits(source: PairSource, splits: Sequence[str]) -> dict[str, PairSource]:
    """Draw `splits` from a source by the hash of names; the remaining pairs are `train`."""
    required = len(splits) + 1
    by_sequence = len({sequence for sequence, _ in source.names}) >= required
    if not by_sequence:
        say(f"data.splits: fewer than {required} sequences, so pairs are drawn; scenes may be in several splits.")

    def group_of(sequence: str, frame: str) -> str:
        return sequence if by_sequence else f"{sequence}/{frame}"

    groups = {group_of(*name) for name in source.names}
    shuffled = sorted(groups, key=lambda group: hashlib.sha256(group.encode()).digest())
    if len(shuffled) < required:
        raise InputError(
            f"data.splits: drawing {' and '.join(splits)} from the training pairs needs at least {required} pairs; "
            f"found {len(shuffled)}. Add pairs.",
            code="too-few-pairs",
        )
    share = max(1, round(len(shuffled) / 10))
    members = {split: {*shuffled[i * share : (i + 1) * share]} for i, split in enumerate(splits)}
    drawn = set().union(*members.values())
    return {
        "train": source.select(lambda *name: group_of(*name) not in drawn),
        **{
            split: source.select(lambda *name, members=groups: group_of(*name) in members)
            for split, groups in members.items()
        },
    }
