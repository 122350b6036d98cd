"""Prepared data: GOPRO_Large as array_record files, with random access to raw uint8 pixels.

Written by `jaxdeblur prepare-gopro` or TFDS, see `gopro/`.
"""

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
from jaxdeblur.data.pair_source import WHOLE, ImagePair, KeepPair, NamedPair, PairName, Window, fingerprint
from jaxdeblur.errors import InputError

_RERUN = "Remove the folder and run `jaxdeblur prepare-gopro` again."


class ArrayRecordSource:
    """A `PairSource` of prepared data, whose records are whole frames.

    Images may be read-only views of a record.

    Attributes:
        name: of the data set and its config.
        skipped: always empty: invalid pairs are never prepared.
        missing: lines on what a part of the data set lacks; empty for the whole.
    """

    def __init__(self, folder: Path, split: str, records: Sequence[Any], metadata: dict, indices: Sequence[int]):
        self.name = f"{DATA_SET}/{folder.parent.name}"
        self.skipped: Sequence[PairName] = ()
        self.missing: list[str] = metadata["missing"]
        self._folder, self._split, self._records, self._metadata = folder, split, records, metadata
        self._columns = metadata["pairs"][split]
        self._indices = list(indices)

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int) -> NamedPair:
        return self.read(index, WHOLE)

    def read(self, index: int, window: Window) -> NamedPair:
        """Return a pair cropped to a window of rows and columns.

        Raises:
            InputError: its record cannot be read (code "prepared-data-corrupt").
        """
        position = self._indices[index]
        try:
            images = self._read_images(position, window)
        except (RuntimeError, ValueError, OSError, IndexError) as error:
            raise InputError(
                f"{self._folder}: pair {position} of {self._split} cannot be read ({error}). {_RERUN}",
                code="prepared-data-corrupt",
            ) from error
        sequence, frame = self._columns["sequence"][position], self._columns["frame"][position]
        return NamedPair(blur=images["blur"], sharp=images["sharp"], sequence=sequence, frame=frame)

    @property
    def num_records(self) -> int:
        """Number of records that the whole split is stored in."""
        return len(self._columns["frame"])

    def _read_images(self, position: int, window: Window) -> ImagePair:
        record = self._records[position]
        return ImagePair(blur=record["blur"][window], sharp=record["sharp"][window])

    @cached_property
    def names(self) -> list[PairName]:
        """(sequence, frame) of each pair."""
        return self._select("sequence", "frame")

    @cached_property
    def sizes(self) -> list[tuple[int, int]]:
        """(H, W) of each pair's images."""
        return self._select("height", "width")

    @cached_property
    def digests(self) -> list[tuple[str, str]]:
        """SHA-256 of the blurry and sharp files that each pair was prepared from."""
        return self._select("blur_sha256", "sharp_sha256")

    def select(self, keep: KeepPair) -> "ArrayRecordSource":
        """Return a source of the pairs for whose (sequence, frame) `keep` is true."""
        indices = [i for i, name in zip(self._indices, self.names, strict=True) if keep(*name)]
        return type(self)(self._folder, self._split, self._records, self._metadata, indices)

    def fingerprint(self) -> str:
        """Return the `fingerprint` of the pairs, equal to that of the files they were prepared from."""
        return fingerprint(self.names, self.digests)

    def _select(self, *keys: str) -> list[tuple]:
        columns = [self._columns[key] for key in keys]
        return [tuple(column[i] for column in columns) for i in self._indices]


class TiledSource(ArrayRecordSource):
    """A `PairSource` whose records are tiles: reading a window reads the tiles that it overlaps."""

    @cached_property
    def _first_tiles(self) -> np.ndarray:
        """Number of each pair's first tile, and the number of all tiles."""
        sizes = zip(self._columns["height"], self._columns["width"], strict=True)
        return np.cumsum([0, *(len(cut_tiles(*size)) for size in sizes)])

    @property
    def num_records(self) -> int:
        """Number of tiles of the whole split."""
        return int(self._first_tiles[-1])

    def _read_images(self, position: int, window: Window) -> ImagePair:
        height, width = self._columns["height"][position], self._columns["width"][position]
        (top, bottom, _), (left, right, _) = window[0].indices(height), window[1].indices(width)
        images = np.empty((2, bottom - top, right - left, 3), np.uint8)
        tiles_across = -(-width // TILE)
        for row in range(top // TILE, -(-bottom // TILE)):
            for column in range(left // TILE, -(-right // TILE)):
                tile = self._records[int(self._first_tiles[position]) + row * tiles_across + column]
                rows, tile_rows = _overlap(row * TILE, tile["blur"].shape[0], top, bottom)
                columns, tile_columns = _overlap(column * TILE, tile["blur"].shape[1], left, right)
                images[0, rows, columns] = tile["blur"][tile_rows, tile_columns]
                images[1, rows, columns] = tile["sharp"][tile_rows, tile_columns]
        return ImagePair(blur=images[0], sharp=images[1])


def _overlap(start: int, length: int, low: int, high: int) -> tuple[slice, slice]:
    """Return the overlap of [start, start + length) and [low, high), relative to `low` and relative to `start`."""
    first, last = max(start, low), min(start + length, high)
    return slice(first - low, last - low), slice(first - start, last - start)


def is_prepared(root: Path) -> bool:
    """Return whether a folder holds prepared data."""
    return any((root / DATA_SET).glob("*/*/dataset_info.json"))


def open_prepared(
    root: Path, *, blur_variant: str, resize: int, resize_filter: str, full_frames: bool = False, section: str = "data"
) -> dict[str, ArrayRecordSource]:
    """Return the prepared `train` and `test` in the fastest format that fits: resized frames, tiles or full frames.

    Args:
        root: TFDS's data folder, as given to `jaxdeblur prepare-gopro --output`.
        blur_variant: 'blur' or 'blur_gamma'.
        resize: side in pixels that frames will be resized to; 0 for none.
        resize_filter: name of the filter.
        full_frames: frames are needed at their original size, even if windows of them are then resized.
        section: part of the config that describes the data, for error messages.

    Raises:
        InputError: a suitable format is missing (code "prepared-data-missing") or corrupt ("prepared-data-corrupt").
    """
    formats = ["tiles", "full"]
    if (resize, resize_filter) == (STORED_SIDE, STORED_FILTER) and not full_frames:
        formats.insert(0, "256")
    wanted = [config_name(blur_variant, name) for name in formats]
    files = (root / DATA_SET).glob(f"*/{DATA_VERSION}/dataset_info.json")
    available = {path.parent.parent.name: path.parent for path in files}
    name = next((name for name in wanted if name in available), None)
    if name is None:
        size = f"resized to {resize} ({resize_filter})" if resize else "at full size"
        fields = f"{section}.blur_variant, {section}.resize or data.resize_filter"
        if full_frames:
            crops = f"{section}.crop_scale or {section}.aspect_jitter"
            size = f"at full size, since {crops} crops windows of frames,"
            fields = f"{section}.blur_variant, {crops}"
        listed = ", ".join(sorted(available)) or "nothing"
        raise InputError(
            f"{section}.root: {root} holds {listed} of version {DATA_VERSION}; {section}.blur_variant="
            f"{blur_variant!r} {size} needs {' or '.join(wanted)}. Run `jaxdeblur prepare-gopro --blur {blur_variant} "
            f"--frames {formats[0]}`, or change {fields}.",
            code="prepared-data-missing",
        )
    return open_folder_of_records(available[name])


def open_folder_of_records(folder: Path) -> dict[str, ArrayRecordSource]:
    """Return the `train` and `test` of one folder, `<root>/gopro_large/<config>/<version>`.

    Raises:
        InputError: it is incomplete, corrupt or does not match its name (code "prepared-data-corrupt").
    """
    import tensorflow_datasets as tfds  # takes half a second, needed for prepared data only

    sources: dict[str, ArrayRecordSource] = {}
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
                records[int(end) - 1]  # the last record of each file: detects missing and truncated files
            sources[split] = source
    except Exception as error:  # TFDS and its JSON, protobuf and record readers raise all kinds on corrupt files
        raise InputError(
            f"{folder}: cannot be read as prepared data ({type(error).__name__}: {error}). {_RERUN}",
            code="prepared-data-corrupt",
        ) from error
    return sources


def _open_records(builder: Any, split: str, *, tiled: bool) -> Sequence[Any]:
    """Return the records of a split of a TFDS builder."""
    from tensorflow_datasets.core import example_parser
    from tensorflow_datasets.core.decode import DeserializeMethod

    if not tiled:
        return builder.as_data_source(split)
    records = builder.as_data_source(split, deserialize_method=DeserializeMethod.RAW_BYTES)
    return _TileRecords(records, example_parser.tf_example_pb2.Example.FromString)


class _TileRecords(Sequence[ImagePair]):
    """Tiles by number. Only the images are decoded, which is three times as fast as TFDS's decoder."""

    def __init__(self, records: Sequence[bytes], parse: Callable[[bytes], Any]):
        self._records, self._parse = records, parse

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: Any) -> Any:
        features = self._parse(self._records[index]).features.feature
        return ImagePair(blur=_decode_tensor(features, "blur"), sharp=_decode_tensor(features, "sharp"))


def _decode_tensor(features: Any, key: str) -> np.ndarray:
    (pixels,) = features[f"{key}/value"].bytes_list.value
    return np.frombuffer(pixels, np.uint8).reshape(features[f"{key}/shape"].int64_list.value)
