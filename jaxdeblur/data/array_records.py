"""Prepared data: GOPRO_Large as `tools/prepare_gopro.py` or TFDS wrote it, with random access to raw uint8 pixels."""

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from jaxdeblur.data.gopro.storage import (
    DATA_SET,
    DATA_VERSION,
    STORED_FILTER,
    STORED_SIDE,
    TILE,
    config_name,
    cut_tiles,
)
from jaxdeblur.data.paired_folders import fingerprint
from jaxdeblur.errors import InputError

Window = tuple[slice, slice]
WHOLE: Window = np.s_[:, :]


class ArrayRecordSource:
    """Random access to pairs: `source[i]` is a dict with uint8 `blur` and `sharp`, and `sequence` and `frame`.

    Images may be views of a record's bytes, and read-only.

    Attributes:
        name: of the data set and its config.
        skipped: names of pairs left out; none, since nothing damaged is ever prepared.
        missing: what the whole data set has and this part of it has not, in lines; empty for the whole.
    """

    skipped: tuple[tuple[str, str], ...] = ()

    def __init__(self, folder: Path, split: str, records: Sequence[dict], metadata: dict, indices: Sequence[int]):
        self.name = f"{DATA_SET}/{folder.parent.name}"
        self.missing = metadata["missing"]
        self._folder, self._split, self._records, self._metadata = folder, split, records, metadata
        self._columns = metadata["pairs"][split]
        self._indices = list(indices)

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int) -> dict:
        return self.read(index, WHOLE)

    def read(self, index: int, window: Window) -> dict:
        """Return the same as `source[index]`, with the images cut to some rows and columns."""
        position = self._indices[index]
        try:
            images = self._read_images(position, window)
        except (RuntimeError, ValueError, OSError, IndexError) as error:
            raise InputError(
                f"{self._folder}: pair {position} of {self._split} cannot be read ({error}). Remove the folder and run "
                "tools/prepare_gopro.py again."
            ) from error
        return {**images, "sequence": self._columns["sequence"][position], "frame": self._columns["frame"][position]}

    @property
    def num_records(self) -> int:
        """Records that the whole split is stored in."""
        return len(self._columns["frame"])

    def _read_images(self, position: int, window: Window) -> dict[str, np.ndarray]:
        record = self._records[position]
        return {variant: record[variant][window] for variant in ("blur", "sharp")}

    @cached_property
    def names(self) -> list[tuple[str, str]]:
        """Sequence and frame of each pair."""
        return self._select("sequence", "frame")

    @cached_property
    def sizes(self) -> list[tuple[int, int]]:
        """(H, W) of each pair's images."""
        return self._select("height", "width")

    @cached_property
    def digests(self) -> list[tuple[str, str]]:
        """SHA-256 of the files that each pair was made from, blurred and sharp."""
        return self._select("blur_sha256", "sharp_sha256")

    def select(self, keep: Callable[[str, str], bool]) -> "ArrayRecordSource":
        """Return a source of the pairs for whose sequence and frame `keep` is true."""
        chosen = [i for i, name in zip(self._indices, self.names, strict=True) if keep(*name)]
        return type(self)(self._folder, self._split, self._records, self._metadata, chosen)

    def fingerprint(self) -> str:
        """Return the SHA-256 that the same pairs have in a folder of files."""
        return fingerprint(self.names, self.digests)

    def _select(self, *keys: str) -> list[tuple]:
        columns = [self._columns[key] for key in keys]
        return [tuple(column[i] for column in columns) for i in self._indices]


class TiledSource(ArrayRecordSource):
    """Pairs stored as tiles: a window costs the tiles that it touches."""

    @cached_property
    def _first_tiles(self) -> np.ndarray:
        """The first tile of each pair."""
        sizes = zip(self._columns["height"], self._columns["width"], strict=True)
        return np.cumsum([0, *(len(cut_tiles(*size)) for size in sizes)])

    @property
    def num_records(self) -> int:
        """Tiles of the whole split."""
        return int(self._first_tiles[-1])

    def _read_images(self, position: int, window: Window) -> dict[str, np.ndarray]:
        height, width = self._columns["height"][position], self._columns["width"][position]
        (top, bottom, _), (left, right, _) = window[0].indices(height), window[1].indices(width)
        images = np.empty((2, bottom - top, right - left, 3), np.uint8)
        tiles_across = -(-width // TILE)
        for row in range(top // TILE, -(-bottom // TILE)):
            for column in range(left // TILE, -(-right // TILE)):
                tile = self._records[int(self._first_tiles[position]) + row * tiles_across + column]
                rows, from_rows = _overlap(row * TILE, tile["blur"].shape[0], top, bottom)
                columns, from_columns = _overlap(column * TILE, tile["blur"].shape[1], left, right)
                images[0, rows, columns] = tile["blur"][from_rows, from_columns]
                images[1, rows, columns] = tile["sharp"][from_rows, from_columns]
        return {"blur": images[0], "sharp": images[1]}


def _overlap(start: int, length: int, low: int, high: int) -> tuple[slice, slice]:
    """Return where the stretch from `start` lies in [low, high), and which part of it that is."""
    first, last = max(start, low), min(start + length, high)
    return slice(first - low, last - low), slice(first - start, last - start)


def is_prepared(root: Path) -> bool:
    """Return whether a folder holds prepared data."""
    return any((root / DATA_SET).glob("*/*/dataset_info.json"))


def open_prepared(
    root: Path, *, blur: str, resize: int, resize_filter: str, full_frames: bool = False, section: str = "data"
) -> dict[str, ArrayRecordSource]:
    """Return the prepared `train` and `test` in the fastest form that fits: frames resized as asked for, or full ones.

    Args:
        root: TFDS's data folder, as given to `tools/prepare_gopro.py --output`.
        blur: 'blur' or 'blur_gamma'; never replaced by the other.
        resize: side in pixels that frames will be resized to; 0 for none.
        resize_filter: the filter's name.
        full_frames: windows of full frames will be read, also if they are then resized.
        section: part of the config that asks for it, as errors call it.

    Raises:
        InputError: what is needed is not there, or is damaged.
    """
    forms = ["tiles", "full"]
    if (resize, resize_filter) == (STORED_SIDE, STORED_FILTER) and not full_frames:
        forms.insert(0, "256")
    wanted = [config_name(blur, form) for form in forms]
    files = (root / DATA_SET).glob(f"*/{DATA_VERSION}/dataset_info.json")
    found = {path.parent.parent.name: path.parent for path in files}
    name = next((name for name in wanted if name in found), None)
    if name is None:
        size = f"resized to {resize} ({resize_filter})" if resize else "at full size"
        changes = f"{section}.blur, {section}.resize or data.resize_filter"
        if full_frames:
            size = f"at full size, since {section}.rescale or {section}.stretch takes windows of frames,"
            changes = f"{section}.blur, {section}.rescale or {section}.stretch"
        listed = ", ".join(sorted(found)) or "nothing"
        raise InputError(
            f"{section}.root: {root} holds {listed} of version {DATA_VERSION}; {section}.blur={blur!r} {size} needs "
            f"{' or '.join(wanted)}. Run tools/prepare_gopro.py --blur {blur} --frames {forms[0]}, or change {changes}."
        )
    return open_folder_of_records(found[name])


def open_folder_of_records(folder: Path) -> dict[str, ArrayRecordSource]:
    """Return the `train` and `test` that one folder, `<root>/gopro_large/<config>/<version>`, holds.

    Raises:
        InputError: something in it is missing, damaged or of another kind than the folder's name says.
    """
    import tensorflow_datasets as tfds  # half a second, which runs on other data need not wait for

    sources = {}
    try:
        builder = tfds.builder_from_directory(folder)
        if (builder.builder_config.name, str(builder.version)) != (folder.parent.name, folder.name):
            raise ValueError(f"holds {builder.builder_config.name}, version {builder.version}")
        kind = TiledSource if builder.builder_config.name.endswith("tiles") else ArrayRecordSource
        for split in ("train", "test"):
            metadata, records = builder.info.metadata, _open_records(builder, split, tiled=kind is TiledSource)
            source = kind(folder, split, records, metadata, range(len(metadata["pairs"][split]["frame"])))
            if len(records) != source.num_records:
                raise ValueError(f"{len(records)} records of {split}, expected {source.num_records}")
            for end in np.cumsum(builder.info.splits[split].shard_lengths):
                records[int(end) - 1]  # the last record of each file: none is missing or cut short
            sources[split] = source
    except Exception as error:  # whatever TFDS and its readers of JSON, protobuf and records raise for damaged files
        raise InputError(
            f"{folder}: cannot be read as prepared data ({type(error).__name__}: {error}). Remove the folder and run "
            "tools/prepare_gopro.py again."
        ) from error
    return sources


def _open_records(builder: Any, split: str, *, tiled: bool) -> Sequence[dict]:
    """Return the records of a split of a TFDS builder."""
    from tensorflow_datasets.core import example_parser
    from tensorflow_datasets.core.decode import DeserializeMethod

    if not tiled:
        return builder.as_data_source(split)
    records = builder.as_data_source(split, deserialize_method=DeserializeMethod.RAW_BYTES)
    return _Tiles(records, example_parser.tf_example_pb2.Example)


class _Tiles:
    """Tiles by their number, of which only the two images are decoded: three times as fast as TFDS decodes a record."""

    def __init__(self, records: Sequence[bytes], message: Any):
        self._records, self._message = records, message

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        features = self._message.FromString(self._records[index]).features.feature
        images = {}
        for key in ("blur", "sharp"):
            (pixels,) = features[f"{key}/value"].bytes_list.value
            images[key] = np.frombuffer(pixels, np.uint8).reshape(features[f"{key}/shape"].int64_list.value)
        return images
