"""Opens `data.root`: prepared GOPRO_Large, a folder in its layout, or a folder of the user's own pairs."""

import dataclasses
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from jaxdeblur.console import say
from jaxdeblur.data.array_records import ArrayRecordSource, is_prepared, open_prepared
from jaxdeblur.data.gopro.storage import DATA_SET
from jaxdeblur.data.pair_source import KeepPair, PairSource
from jaxdeblur.data.paired_folders import FolderSource, open_folder
from jaxdeblur.data.splits import check_held_out, split_original_test, split_pairs
from jaxdeblur.errors import InputError, raise_together
from jaxdeblur.files import printable

EXPECTED = "prepared data, or the folder that holds `train` and `test`"


@dataclasses.dataclass(frozen=True)
class DataOptions:
    """Which pairs a run trains and is evaluated on: fields of the config's `data`.

    Attributes:
        root: folder of the data.
        blur_variant: 'blur' or 'blur_gamma'.
        splits: one of `splits.SPLIT_RULES`.
        validation_sequences: sequences of `train` held out by 'official' and 'auto'; () lets 'auto' draw them.
        skip_invalid: leave out invalid pairs instead of refusing the data.
    """

    root: Path
    blur_variant: str
    splits: str
    validation_sequences: tuple[str, ...]
    skip_invalid: bool


def open_sources(
    options: DataOptions, *, resize: int, resize_filter: str, crop: int, full_frames: bool = False
) -> dict[str, PairSource]:
    """Return the sources of `train`, `validation` and `test`; of `test` alone for splits='none'.

    Args:
        options: which data.
        resize: side in pixels that frames will be resized to; 0 for none.
        resize_filter: name of the filter.
        crop: minimum side of a training image in pixels, where frames are not resized.
        full_frames: frames are needed at their original size, even if windows of them are then resized.

    Raises:
        InputError: a folder, file, pair or split is wrong; all invalid files at once.
    """
    root = options.root
    available: Mapping[str, PairSource]
    if is_prepared(root):
        available = open_prepared(
            root,
            blur_variant=options.blur_variant,
            resize=resize,
            resize_filter=resize_filter,
            full_frames=full_frames,
        )
        if options.splits in ("drawn", "none"):
            raise InputError(
                f"data.splits: {options.splits!r}, but prepared data has splits. Set it to 'official', 'original' or "
                "'auto'.",
                code="data-has-splits",
            )
    else:
        available = _open_folders(options, min_side=0 if resize else crop)
    return split_pairs(available, options.splits, options.validation_sequences, root)


def open_scored_sources(options: DataOptions, *, resize: int, resize_filter: str) -> dict[str, PairSource]:
    """Return the sources of `validation` and `test` only; no file of a training pair in a folder is opened.

    Where validation is held out of training pairs that are missing, as on another machine, only `test` is returned,
    with a message.

    Args:
        options: which data.
        resize: side in pixels that frames will be resized to; 0 for none.
        resize_filter: name of the filter.

    Raises:
        InputError: a folder, file, pair or split is wrong; all invalid files at once.
    """
    if is_prepared(options.root) or options.splits in ("drawn", "auto", "none"):
        sources = open_sources(options, resize=resize, resize_filter=resize_filter, crop=0)
        return {split: source for split, source in sources.items() if split != "train"}
    splits = _list_splits(options.root, required=("test",))
    if options.splits == "original":
        test = _open_splits(options, {"test": None})["test"]
        return split_original_test(test, has_validation="validation" in splits)
    if "validation" in splits:
        return {**_open_splits(options, {"validation": None, "test": None})}
    held_out = {*options.validation_sequences}
    absent = sorted(name for name in held_out if not (options.root / "train" / name).exists())
    if held_out and len(absent) == len(held_out):
        reason = f"neither a folder `validation` nor {', '.join(absent)} in `train`"
        say(f"{options.root}: has no validation pairs ({reason}); only the test split is evaluated.")
        return {**_open_splits(options, {"test": None})}
    folders = _open_splits(options, {"train": lambda sequence, frame: sequence in held_out, "test": None})
    check_held_out(folders["train"], options.validation_sequences)
    return {"validation": folders["train"], "test": folders["test"]}


def name_data_set(root: Path, source: PairSource) -> str:
    """Return the data set's name for reports."""
    if isinstance(source, ArrayRecordSource):
        return f"{DATA_SET}{' (a part)' if source.missing else ''}"
    return printable(root.resolve().name)


def _open_folders(options: DataOptions, *, min_side: int) -> dict[str, FolderSource]:
    """Open the folder of every split, or `all` pairs where there are none."""
    root = options.root
    if options.splits == "auto" and {"train", "validation", "test"} & {*_list_folders(root)}:
        return _open_splits(options, dict.fromkeys(_list_splits(root, required=("train",))), min_side=min_side)
    if options.splits in ("official", "original"):
        splits = _list_splits(root, required=("train", "test"))
        return _open_splits(options, dict.fromkeys(splits), min_side=min_side)
    folders = _list_folders(root)
    if {"train", "test"} & {*folders}:
        raise InputError(
            f"data.splits: {options.splits!r}, but {root} has splits ({', '.join(folders)}). Set 'official'.",
            code="data-has-splits",
        )
    return {"all": open_folder(root, options.blur_variant, skip_invalid=options.skip_invalid, min_side=min_side)}


def _list_folders(root: Path) -> list[str]:
    if not root.is_dir():
        raise InputError(
            f"data.root: {root} is not a folder; expected {EXPECTED}. Pass --config.data.root=PATH.",
            code="no-data-folder",
        )
    if inside := next((path for path in (root, *root.resolve().parents[:2]) if path.name == DATA_SET), None):
        raise InputError(
            f"data.root: {root} lies inside prepared data. Pass --config.data.root={inside.parent}.",
            code="inside-prepared-data",
        )
    return sorted(path.name for path in root.iterdir() if path.is_dir())


def _list_splits(root: Path, *, required: Sequence[str]) -> list[str]:
    """Return the splits that have a folder.

    Raises:
        InputError: a required split has none (code "no-split-folder").
    """
    folders = _list_folders(root)
    if absent := [name for name in required if name not in folders]:
        listed = ", ".join(folders[:10]) or "none"
        remedy = (
            "Add it."
            if {"train", "test"} & {*folders}
            else "For pairs without splits, set --config.data.splits=drawn; to evaluate only, =none."
        )
        raise InputError(
            f"data.root: {root} has no folder {' and no '.join(absent)} (found: {listed}); expected {EXPECTED}. "
            f"{remedy}",
            code="no-split-folder",
        )
    return [name for name in ("train", "validation", "test") if name in folders]


def _open_splits(
    options: DataOptions, splits: Mapping[str, KeepPair | None], *, min_side: int = 0
) -> dict[str, FolderSource]:
    """Open the folders of splits, restricted to the pairs to keep (None: all); `min_side` applies to `train`.

    Raises:
        InputError: the problems of all splits.
    """
    checks = [
        partial(
            open_folder,
            options.root / split,
            options.blur_variant,
            skip_invalid=options.skip_invalid,
            min_side=min_side if split == "train" else 0,
            keep=keep,
        )
        for split, keep in splits.items()
    ]
    return dict(zip(splits, raise_together(*checks), strict=True))
