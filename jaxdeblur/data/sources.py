"""One way in to all data: `data.root` names prepared GOPRO_Large, a folder in its layout, or a folder of own pairs.

A source gives random access to pairs, `source[i]` with uint8 RGB `blur` and `sharp` (H, W, 3), `sequence` and `frame`,
and knows `names`, `sizes` and the `fingerprint()` of its pairs without reading them.
"""

import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

from jaxdeblur.console import say
from jaxdeblur.data.array_records import ArrayRecordSource, is_prepared, open_prepared
from jaxdeblur.data.gopro.archive import NUM_PAIRS
from jaxdeblur.data.gopro.storage import DATA_SET
from jaxdeblur.data.paired_folders import FolderSource, open_folder
from jaxdeblur.errors import InputError
from jaxdeblur.files import printable

PairSource = FolderSource | ArrayRecordSource

SPLITS = ("official", "original", "drawn", "auto", "none")
LAYOUT = "prepared data, or the folder that holds `train` and `test`"
ORIGINAL_VALIDATION = 500  # entries of the sorted test list


@dataclasses.dataclass(frozen=True)
class DataOptions:
    """Which pairs a run learns from and is judged on; the fields of the config.

    Attributes:
        root: folder of the data.
        blur: name of the blurred images: 'blur' or 'blur_gamma'.
        splits: one of `SPLITS`, see `split_pairs`.
        validation_sequences: sequences of `train` that 'official' and 'auto' set aside; () for 'auto' to draw them.
        skip_bad: go on without bad pairs instead of refusing the data.
    """

    root: Path
    blur: str
    splits: str
    validation_sequences: tuple[str, ...]
    skip_bad: bool


def open_sources(
    options: DataOptions, *, resize: int, resize_filter: str, crop: int, full_frames: bool = False
) -> dict[str, PairSource]:
    """Return the sources of `train`, `validation` and `test`.

    Args:
        options: which data.
        resize: side in pixels that frames will be resized to; 0 for none.
        resize_filter: the filter's name.
        crop: fewest pixels of a training image's side; where frames are not rescaled, the largest random crop.
        full_frames: windows of full frames will be read, also if they are then resized.

    Raises:
        InputError: a folder, a file, a pair or a split is wrong; all that is wrong with the files of a split at once.
    """
    root = options.root
    if is_prepared(root):
        form = {"resize": resize, "resize_filter": resize_filter, "full_frames": full_frames}
        found = open_prepared(root, blur=options.blur, **form)
        if options.splits in ("drawn", "none"):
            raise InputError(
                f"data.splits: {options.splits!r}, but prepared data has splits. Set it to 'official', 'original' or "
                "'auto'."
            )
    else:
        found = _open_folders(options, least_side=0 if resize else crop)
    return split_pairs(found, options)


def open_scored_sources(options: DataOptions, *, resize: int, resize_filter: str) -> dict[str, PairSource]:
    """Return the sources of `validation` and `test` alone; of folders, no file of a training pair is opened.

    Without training pairs at hand, as on another machine, a validation split that is held out of them is missing: then
    only `test` is returned, which is said.

    Args:
        options: which data.
        resize: side in pixels that frames will be resized to; 0 for none.
        resize_filter: the filter's name.

    Raises:
        InputError: a folder, a file, a pair or a split is wrong; all that is wrong with the files of a split at once.
    """
    if is_prepared(options.root) or options.splits in ("drawn", "auto", "none"):
        found = open_sources(options, resize=resize, resize_filter=resize_filter, crop=0)
        return {split: source for split, source in found.items() if split != "train"}
    names = _list_splits(options.root, required=("test",))
    if options.splits == "original":
        test = _open_splits(options, {"test": None})["test"]
        return _split_original_test(test, has_validation="validation" in names)
    if "validation" in names:
        return _open_splits(options, {"validation": None, "test": None})
    held_out = {*options.validation_sequences}
    absent = sorted(name for name in held_out if not (options.root / "train" / name).exists())
    if held_out and len(absent) == len(held_out):
        where = f"neither a folder `validation` nor {', '.join(absent)} in `train`"
        say(f"{options.root}: has no validation pairs ({where}); only the test split is scored.")
        return _open_splits(options, {"test": None})
    found = _open_splits(options, {"train": lambda sequence, frame: sequence in held_out, "test": None})
    _check_held_out(found["train"], options.validation_sequences)
    return {"validation": found["train"], "test": found["test"]}


def split_pairs(found: dict[str, PairSource], options: DataOptions) -> dict[str, PairSource]:
    """Return `train`, `validation` and `test` by the rule that `options.splits` names.

    - official: `test` as it is. Validation is a split of its own if the data has one, else the named sequences of
      `train`, whole, so that no scene is in both.
    - original: all of `train`; entries 0 to 499 of GOPRO_Large's 1,111 test pairs, sorted by sequence and frame, for
      validation and 500 to 1110 for test, as in the project whose published numbers this reproduces. Scenes are shared.
    - drawn: for pairs without `train` and `test`. A tenth of the sequences each, at least one, for test and for
      validation, drawn by the hash of their names; with fewer than 3 sequences, of the pairs instead.
    - auto: the splits that the data has, and those that it lacks drawn from its training pairs as by 'drawn', so that
      folders with all splits, with `train` alone, and without any will do. Validation is a split of its own if the data
      has one, else the named sequences, else it is drawn.
    - none: for pairs without `train` and `test` that are scored and not trained on: all of them are `test`.

    Raises:
        InputError: the data does not have what the rule needs.
    """
    if options.splits == "original":
        return _split_original(found)
    if options.splits == "drawn":
        return _split_drawn(found["all"], ("test", "validation"))
    if options.splits == "auto":
        return _split_as_needed(found, options)
    if options.splits == "none":
        return {"test": found["all"]}
    if "validation" in found:
        say(f"{options.root}: has pairs for validation of its own; data.validation_sequences is not used.")
        return {split: found[split] for split in ("train", "validation", "test")}
    training, validation = hold_out(found["train"], options.validation_sequences)
    return {"train": training, "validation": validation, "test": found["test"]}


def hold_out(source: PairSource, sequences: Sequence[str]) -> tuple[PairSource, PairSource]:
    """Split training pairs into (training, validation) by whole sequences, so that no scene is in both.

    Raises:
        InputError: a sequence is not there, or nothing is left on one side.
    """
    present = _check_held_out(source, sequences)
    if len({*sequences}) == len(present):
        raise InputError(f"data.validation_sequences: all sequences of train/ are held out. {_HOLD_OUT}")
    training = source.select(lambda sequence, frame: sequence not in sequences)
    return training, source.select(lambda sequence, frame: sequence in sequences)


_HOLD_OUT = (
    "Set data.validation_sequences to some of the sequences in train/, but not all; or put pairs for validation into a "
    "folder `validation` beside train/."
)


def _check_held_out(source: PairSource, sequences: Sequence[str]) -> list[str]:
    """Return the sequences of a source.

    Raises:
        InputError: one of those to hold out is not among them, or there are none to hold out.
    """
    present = sorted({sequence for sequence, _ in source.names})
    missing = [name for name in sequences if name not in present]
    if missing or not sequences:
        found = f"found {', '.join(present)}"
        raise InputError(
            f"data.validation_sequences: {', '.join(missing) or 'empty'}; {found} in train/. {_HOLD_OUT}",
            code="validation-sequence-missing",
        )
    return present


def name_data_set(root: Path, source: PairSource) -> str:
    """Return what reports call the data."""
    if isinstance(source, ArrayRecordSource):
        return f"{DATA_SET}{' (a part)' if source.missing else ''}"
    return printable(root.resolve().name)


def _open_folders(options: DataOptions, *, least_side: int) -> dict[str, FolderSource]:
    """Open every split's folder; all that is wrong with all of them is one error."""
    root = options.root
    if options.splits == "auto" and {"train", "validation", "test"} & {*_list_folders(root)}:
        return _open_splits(options, dict.fromkeys(_list_splits(root, required=("train",))), least_side=least_side)
    if options.splits in ("official", "original"):
        names = _list_splits(root, required=("train", "test"))
        return _open_splits(options, dict.fromkeys(names), least_side=least_side)
    found = _list_folders(root)
    if {"train", "test"} & {*found}:
        raise InputError(
            f"data.splits: {options.splits!r}, but {root} has splits ({', '.join(found)}). Set 'official'."
        )
    return {"all": open_folder(root, options.blur, skip_bad=options.skip_bad, least_side=least_side)}


def _list_folders(root: Path) -> list[str]:
    if not root.is_dir():
        raise InputError(
            f"data.root: {root} is no folder; expected {LAYOUT}. Pass --config.data.root=PATH.", code="no-data-folder"
        )
    if inside := next((path for path in (root, *root.resolve().parents[:2]) if path.name == DATA_SET), None):
        raise InputError(f"data.root: {root} lies inside prepared data. Pass --config.data.root={inside.parent}.")
    return sorted(path.name for path in root.iterdir() if path.is_dir())


def _list_splits(root: Path, *, required: Sequence[str]) -> list[str]:
    """Return the splits that have a folder.

    Raises:
        InputError: a required one has none.
    """
    found = _list_folders(root)
    if absent := [name for name in required if name not in found]:
        listed = ", ".join(found[:10]) or "none"
        remedy = (
            "For pairs without splits, set --config.data.splits=drawn; only to score them, =none."
            if not {"train", "test"} & {*found}
            else "Add it."
        )
        raise InputError(
            f"data.root: {root} has no folder {' and no '.join(absent)} (found: {listed}); expected {LAYOUT}. {remedy}",
            code="no-split-folder",
        )
    return [name for name in ("train", "validation", "test") if name in found]


def _open_splits(
    options: DataOptions, splits: dict[str, Callable[[str, str], bool] | None], *, least_side: int = 0
) -> dict[str, FolderSource]:
    """Open folders of splits, of each the pairs for whose sequence and frame the function is true; None: all pairs."""
    sources, problems = {}, []
    for split, keep in splits.items():
        least = least_side if split == "train" else 0
        form = {"skip_bad": options.skip_bad, "least_side": least, "keep": keep}
        try:
            sources[split] = open_folder(options.root / split, options.blur, **form)
        except InputError as error:
            problems.append(error)
    if problems:
        raise InputError("\n".join(map(str, problems)), code=problems[0].code)
    return sources


def _split_original(found: dict[str, PairSource]) -> dict[str, PairSource]:
    return {"train": found["train"], **_split_original_test(found["test"], has_validation="validation" in found)}


def _split_original_test(test: PairSource, *, has_validation: bool) -> dict[str, PairSource]:
    if len(test) != NUM_PAIRS["test"] or has_validation:
        extra = " and a folder `validation`" if has_validation else ""
        extra += f", {len(test.skipped)} left out as bad" if test.skipped else ""
        raise InputError(
            f"data.splits: 'original' cuts the {NUM_PAIRS['test']:,} test pairs of GOPRO_Large at entry "
            f"{ORIGINAL_VALIDATION}; found {len(test):,} test pairs{extra}. Set it to 'official'."
        )
    first = {*sorted(test.names)[:ORIGINAL_VALIDATION]}
    return {
        "validation": test.select(lambda *name: name in first),
        "test": test.select(lambda *name: name not in first),
    }


def _split_as_needed(found: dict[str, PairSource], options: DataOptions) -> dict[str, PairSource]:
    given = {split: found[split] for split in ("validation", "test") if split in found}
    training = found["all"] if "all" in found else found["train"]
    if "validation" not in given and options.validation_sequences:
        training, given["validation"] = hold_out(training, options.validation_sequences)
    missing = tuple(split for split in ("test", "validation") if split not in given)
    if not missing:
        return {"train": training, **given}
    parts = _split_drawn(training, missing)
    for split in missing:
        sequences = sorted({sequence for sequence, _ in parts[split].names})
        listed = ", ".join(sequences[:10]) + (", ..." if len(sequences) > 10 else "")
        say(f"{options.root}: has no {split} split; {len(parts[split])} pairs were drawn for it, of {listed}.")
    return {**parts, **given}


def _split_drawn(source: PairSource, splits: Sequence[str]) -> dict[str, PairSource]:
    """Return `train` and the other splits, drawn from the pairs of a source."""
    least = len(splits) + 1
    by_sequence = len({sequence for sequence, _ in source.names}) >= least
    if not by_sequence:
        say(f"data.splits: fewer than {least} sequences, so single pairs are drawn; scenes may be in several splits.")

    def group(sequence: str, frame: str) -> str:
        return sequence if by_sequence else f"{sequence}/{frame}"

    groups = {group(*name) for name in source.names}
    drawn = sorted(groups, key=lambda group: hashlib.sha256(group.encode()).digest())
    if len(drawn) < least:
        raise InputError(
            f"data.splits: drawing {' and '.join(splits)} from the training pairs needs {least} pairs at least; found "
            f"{len(drawn)}. Add pairs.",
            code="too-few-pairs",
        )
    share = max(1, round(len(drawn) / 10))
    parts = {split: {*drawn[i * share : (i + 1) * share]} for i, split in enumerate(splits)}
    taken = set().union(*parts.values())
    return {
        "train": source.select(lambda *name: group(*name) not in taken),
        **{split: source.select(lambda *name, part=part: group(*name) in part) for split, part in parts.items()},
    }
