"""TFDS builder: reads the archive in place, checks every image and writes array_record files.

Images are uint8 RGB, (H, W, 3). TensorFlow is not needed.
"""

import contextlib
import dataclasses
import io
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import grain
import numpy as np
import tensorflow_datasets as tfds
from array_record.python.array_record_module import ArrayRecordWriter
from tqdm import tqdm

from jaxdeblur.data.gopro.archive import SEQUENCES, Archive, ArchivePair, listing_sha256, plan_pairs
from jaxdeblur.data.gopro.storage import BYTES_PER_PAIR, DATA_VERSION, FORMATS, STORED_SIDE, config_name, read_pair
from jaxdeblur.errors import InputError, list_problems
from jaxdeblur.files import exclusive_lock

SHARD_BYTES = 2**28  # TFDS holds a shard's examples in memory until its file is closed
PER_PAIR = ("sequence", "frame", "height", "width", "blur_sha256", "sharp_sha256")

CITATION = """@inproceedings{nah2017deep,
  title={Deep Multi-scale Convolutional Neural Network for Dynamic Scene Deblurring},
  author={Nah, Seungjun and Kim, Tae Hyun and Lee, Kyoung Mu},
  booktitle={CVPR},
  year={2017}
}"""


@dataclasses.dataclass(kw_only=True)
class GoproConfig(tfds.core.BuilderConfig):
    """Blur variant and storage format.

    Attributes:
        blur: 'blur' (plain mean of the recorded frames) or 'blur_gamma' (mean in linear light).
        storage_format: '256', 'full' or 'tiles', see FORMATS.
    """

    blur: str
    storage_format: str


Plan = tuple[Archive, dict[str, list[ArchivePair]], list[str]]


class _RawWriter(tfds.core.ExampleWriter):
    """Writes uncompressed records: compression saves a third at most and makes reading 4 times slower."""

    def write(self, path: Any, examples: Iterable[tuple[Any, bytes]]) -> None:
        writer = ArrayRecordWriter(os.fspath(path), "group_size:1,uncompressed")
        try:
            for _, record in examples:
                writer.write(record)
            writer.close()
        except RuntimeError as error:  # raised by its C++ code, for instance if the disk is full
            raise OSError(f"{path}: {error}") from error


# GeneratorBasedBuilder would sort a split, 12 GB, in memory to keep the order.
class GoproLarge(tfds.core.ShardBasedBuilder):
    """GOPRO_Large: 2,103 training and 1,111 test pairs of blurry and sharp 1280x720 frames, in official order.

    Args:
        source: GOPRO_Large.zip or the folder that it unpacks to; None searches TFDS's manual directory for either.
        partial: accept a part of the data set, as recorded in the metadata.
        **kwargs: `config`, `data_dir` and `version`, as for any TFDS builder.
    """

    VERSION = tfds.core.Version(DATA_VERSION)
    RELEASE_NOTES = {DATA_VERSION: "Raw uint8 pixels."}  # noqa: RUF012  TFDS reads it from the class
    BUILDER_CONFIGS = [  # noqa: RUF012
        GoproConfig(
            name=config_name(blur, name), description=f"`{blur}`; {description}", blur=blur, storage_format=name
        )
        for blur in ("blur", "blur_gamma")
        for name, description in FORMATS.items()
    ]
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "Download GOPRO_Large.zip from https://seungjunnah.github.io/Datasets/gopro and put it, zipped or unpacked "
        "into a folder GOPRO_Large, into the manual directory."
    )

    def __init__(self, *, source: Path | str | None = None, partial: bool = False, **kwargs: Any):
        self._source = Path(source) if source else None
        self._partial = partial
        self._plan: Plan | None = None
        self._problems: list[str] = []
        if kwargs.get("config") is None:  # TFDS would use the first one
            raise ValueError(f"gopro_large: name a config, one of {', '.join(self.builder_configs)}")
        super().__init__(**kwargs)

    def download_and_prepare(self, *, file_format: str = "array_record", **kwargs: Any) -> None:
        """Prepare the data set atomically; an existing one is checked and kept.

        Raises:
            InputError: the source is incomplete or corrupt (lists all problems); the existing data set differs (code
                "prepared-data-differs"); or the target is not writable or too small.
        """
        if file_format != "array_record":
            raise ValueError(f"file_format: {file_format!r}; raw pixels are stored as 'array_record' only")
        if self.data_path.exists():
            self._check_present()
            return
        if self._source:  # fail before TFDS creates its first folder
            self._plan = self._make_plan(self._source)
        folder = Path(self.data_path).parent
        busy = InputError(
            f"{folder}: another process is preparing data here. Wait for it, or stop it.", code="folder-locked"
        )
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with exclusive_lock(folder, busy), contextlib.redirect_stdout(io.StringIO()):
                for leftover in self.data_path.parent.glob("incomplete.*"):  # of a process that was killed
                    shutil.rmtree(leftover)
                # TFDS's output is about downloads, of which there are none.
                super().download_and_prepare(file_format=file_format, **kwargs)
        except OSError as error:
            raise InputError(
                f"{self.data_dir}: cannot be written ({error.strerror or error}). Free disk space, or use another "
                "folder.",
                code="data-not-written",
            ) from error

    def _info(self) -> tfds.core.DatasetInfo:
        storage_format = self.builder_config.storage_format
        side = STORED_SIDE if storage_format == "256" else None
        image = tfds.features.Tensor(shape=(side, side, 3), dtype=np.uint8, encoding="bytes")
        if storage_format == "full":
            image = tfds.features.Image(shape=(None, None, 3), encoding_format="png")
        features = {
            "blur": image,
            "sharp": image,
            "sequence": tfds.features.Text(),
            "frame": tfds.features.Text(),
            "position": tfds.features.Scalar(np.int64, doc="Index of the pair in its split's official order."),
        }
        if storage_format == "tiles":
            features["top"] = tfds.features.Scalar(np.int64, doc="First row of the tile in its frame.")
            features["left"] = tfds.features.Scalar(np.int64, doc="First column of the tile in its frame.")
        return tfds.core.DatasetInfo(
            builder=self,
            description="Frames blurred by averaging 7 to 13 sharp frames of a 240 fps camera, and the middle frame.",
            features=tfds.features.FeaturesDict(features),
            supervised_keys=("blur", "sharp"),
            homepage="https://seungjunnah.github.io/Datasets/gopro",
            citation=CITATION,
            license="CC BY 4.0",
            disable_shuffling=True,
            metadata=tfds.core.MetadataDict(),
        )

    def _example_writer(self) -> tfds.core.ExampleWriter:
        return _RawWriter(self.info.file_format)

    def _download_and_prepare(self, dl_manager: Any, download_config: Any = None) -> None:
        super()._download_and_prepare(dl_manager, download_config)
        self._bar.close()
        if self._problems:
            assert self._plan is not None  # set by `_shard_iterators_per_split`
            heading = f"{self._plan[0].source}: {len(self._problems)} problem(s) with the images:"
            raise InputError(
                list_problems(heading, self._problems, "Download or unpack it again.", shown=None),
                code="archive-corrupt",
            )

    def _shard_iterators_per_split(self, dl_manager: Any) -> dict[str, list[Callable[[], Iterator]]]:
        self._plan = self._plan or self._make_plan(_find_source(Path(dl_manager.manual_dir)))
        archive, pairs, missing = self._plan
        self._check_space(sum(map(len, pairs.values())))
        self._problems = []
        self.info.metadata.update(
            partial=bool(missing),
            missing=missing,
            listing_sha256=listing_sha256(archive, pairs),
            pairs={split: {key: [] for key in PER_PAIR} for split in SEQUENCES},
        )
        total = sum(map(len, pairs.values()))
        self._bar = tqdm(total=total, desc=self.info.full_name, unit="pair", disable=None)  # None: on terminals only
        step = int(SHARD_BYTES // BYTES_PER_PAIR[self.builder_config.storage_format])
        return {
            split: [
                partial(self._read_shard, archive, split, start, split_pairs[start : start + step])
                for start in range(0, len(split_pairs), step)
            ]
            for split, split_pairs in pairs.items()
        }

    def _read_shard(
        self, archive: Archive, split: str, start: int, pairs: list[ArchivePair]
    ) -> Iterator[tuple[int, dict]]:
        """Yield the pairs of a shard, decoded by several threads; problems are collected instead of raised."""
        read = partial(read_pair, archive, storage_format=self.builder_config.storage_format)
        num_threads = os.cpu_count() or 1
        options = grain.ReadOptions(num_threads=num_threads, prefetch_buffer_size=2 * num_threads)
        loaded = grain.MapDataset.source(pairs).map(read).to_iter_dataset(options)
        columns = self.info.metadata["pairs"][split]
        for position, (files, (images, metadata, problems)) in enumerate(zip(pairs, loaded, strict=True), start):
            self._bar.update()
            self._problems += problems
            if self._problems:
                continue  # keep reading, to report all problems at once
            names = {"sequence": files.sequence, "frame": files.frame}
            for key, value in {**names, **metadata}.items():
                columns[key].append(value)
            for i, image in enumerate(images):
                yield position * 10**6 + i, {**image, **names, "position": position}

    def _make_plan(self, source: Path) -> Plan:
        archive = Archive(source)
        return archive, *plan_pairs(archive, self.builder_config.blur, partial=self._partial)

    def _check_space(self, num_pairs: int) -> None:
        needed = num_pairs * BYTES_PER_PAIR[self.builder_config.storage_format]
        free = shutil.disk_usage(self.data_path.parent).free
        if needed > free:
            raise InputError(
                f"{self.data_path.parent}: {needed / 1e6:,.0f} MB needed for {num_pairs:,} pairs, {free / 1e6:,.0f} MB "
                "free. Free disk space or choose another disk.",
                code="disk-full",
            )

    def _check_present(self) -> None:
        """Refuse an existing data set that is not the requested one."""
        remedy = f"Remove {self.data_dir} to prepare it again, or choose another folder."
        metadata = self.info.metadata
        if metadata["partial"] and not self._partial:
            raise InputError(
                f"{self.data_dir}: holds a part of the data set; expected the whole. {remedy}",
                code="prepared-data-differs",
            )
        if self._source:
            archive, pairs, _ = self._make_plan(self._source)
            if listing_sha256(archive, pairs) != metadata["listing_sha256"]:
                raise InputError(
                    f"{self.data_dir}: was made from other files than those of {self._source}. {remedy}",
                    code="prepared-data-differs",
                )


def _find_source(manual_dir: Path) -> Path:
    for name in ("GOPRO_Large.zip", "GOPRO_Large"):
        if (manual_dir / name).exists():
            return manual_dir / name
    raise InputError(
        f"{manual_dir}: no GOPRO_Large.zip and no folder GOPRO_Large. Put one there.", code="archive-missing"
    )
