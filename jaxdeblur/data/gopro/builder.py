"""The TFDS builder: reads the archive in place, checks every image, and writes array_record files.

Images are uint8 RGB, (H, W, 3). TensorFlow is not needed.
"""

import contextlib
import dataclasses
import fcntl
import hashlib
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

from jaxdeblur.data.gopro.archive import SEQUENCES, Archive, PairFiles, plan_pairs
from jaxdeblur.data.gopro.storage import BYTES_PER_PAIR, DATA_VERSION, FORMS, STORED_SIDE, config_name, read_pair
from jaxdeblur.errors import InputError, list_problems

SHARD_BYTES = 2**28  # TFDS keeps a shard's examples in memory until its file is closed
PER_PAIR = ("sequence", "frame", "height", "width", "blur_sha256", "sharp_sha256")

CITATION = """@inproceedings{nah2017deep,
  title={Deep Multi-scale Convolutional Neural Network for Dynamic Scene Deblurring},
  author={Nah, Seungjun and Kim, Tae Hyun and Lee, Kyoung Mu},
  booktitle={CVPR},
  year={2017}
}"""


@dataclasses.dataclass(kw_only=True)
class GoproConfig(tfds.core.BuilderConfig):
    """Which blurred images, and in which form.

    Attributes:
        blur: 'blur' (plain mean of the recorded frames) or 'blur_gamma' (mean in linear light).
        form: '256', 'full' or 'tiles', see FORMS.
    """

    blur: str
    form: str


Plan = tuple[Archive, dict[str, list[PairFiles]], list[str]]


class _RawWriter(tfds.core.ExampleWriter):
    """Writes records uncompressed: raw pixels shrink by a third at best, and reading them takes four times as long."""

    def write(self, path: Any, examples: Iterable[tuple[Any, bytes]]) -> None:
        writer = ArrayRecordWriter(os.fspath(path), "group_size:1,uncompressed")
        try:
            for _, record in examples:
                writer.write(record)
            writer.close()
        except RuntimeError as error:  # what its C++ raises, for a full disk for instance
            raise OSError(f"{path}: {error}") from error


# TFDS's usual builder, GeneratorBasedBuilder, sorts a split in memory, all 12 GB of it, where order is to be kept.
class GoproLarge(tfds.core.ShardBasedBuilder):
    """GOPRO_Large: 2,103 training and 1,111 test pairs of blurred and sharp 1280x720 frames, in official order.

    Args:
        source: GOPRO_Large.zip or the folder that it unpacks to; None looks for either in TFDS's manual directory.
        partial: whether the source may be a part of the data set, which the metadata then say.
        **kwargs: `config`, `data_dir` and `version`, as for any TFDS builder.
    """

    VERSION = tfds.core.Version(DATA_VERSION)
    RELEASE_NOTES = {DATA_VERSION: "Raw uint8 pixels."}  # noqa: RUF012  TFDS reads it from the class
    BUILDER_CONFIGS = [  # noqa: RUF012
        GoproConfig(name=config_name(blur, form), description=f"`{blur}`; {words}", blur=blur, form=form)
        for blur in ("blur", "blur_gamma")
        for form, words in FORMS.items()
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
        if kwargs.get("config") is None:  # TFDS would take the first one
            raise ValueError(f"gopro_large: name a config, one of {', '.join(self.builder_configs)}")
        super().__init__(**kwargs)

    def download_and_prepare(self, *, file_format: str = "array_record", **kwargs: Any) -> None:
        """Prepare the data set in one piece, or keep the one that is there.

        Raises:
            InputError: the source is incomplete or damaged, with all that is wrong; what is there is another part of
                the data set; or the target cannot be written or is too small.
        """
        if file_format != "array_record":
            raise ValueError(f"file_format: {file_format!r}; raw pixels are stored as 'array_record' only")
        if self.data_path.exists():
            self._check_present()
            return
        if self._source:  # before TFDS makes its first folder
            self._plan = self._make_plan(self._source)
        try:
            with _alone(Path(self.data_path).parent), contextlib.redirect_stdout(io.StringIO()):
                for leftover in self.data_path.parent.glob("incomplete.*"):  # of a process that was killed
                    shutil.rmtree(leftover)
                # What TFDS prints is of downloads; there are none.
                super().download_and_prepare(file_format=file_format, **kwargs)
        except OSError as error:
            raise InputError(
                f"{self.data_dir}: cannot be written ({error.strerror or error}). Choose another folder, or make room."
            ) from error

    def _info(self) -> tfds.core.DatasetInfo:
        form = self.builder_config.form
        side = STORED_SIDE if form == "256" else None
        image = tfds.features.Tensor(shape=(side, side, 3), dtype=np.uint8, encoding="bytes")
        if form == "full":
            image = tfds.features.Image(shape=(None, None, 3), encoding_format="png")
        features = {
            "blur": image,
            "sharp": image,
            "sequence": tfds.features.Text(),
            "frame": tfds.features.Text(),
            "position": tfds.features.Scalar(np.int64, doc="Index of the pair in its split's official order."),
        }
        if form == "tiles":
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
            heading = f"{self._plan[0].source}: {len(self._problems)} problem(s) with the images:"
            raise InputError(list_problems(heading, self._problems, "Download or unpack it again.", shown=None))

    def _shard_iterators_per_split(self, dl_manager: Any) -> dict[str, list[Callable[[], Iterator]]]:
        self._plan = self._plan or self._make_plan(_find_source(Path(dl_manager.manual_dir)))
        archive, pairs, missing = self._plan
        self._check_space(sum(map(len, pairs.values())))
        self._problems = []
        self.info.metadata.update(
            partial=bool(missing),
            missing=missing,
            listing_sha256=_listing_sha256(archive, pairs),
            pairs={split: {key: [] for key in PER_PAIR} for split in SEQUENCES},
        )
        total = sum(map(len, pairs.values()))
        self._bar = tqdm(total=total, desc=self.info.full_name, unit="pair", disable=None)  # None: on terminals only
        step = int(SHARD_BYTES // BYTES_PER_PAIR[self.builder_config.form])
        return {
            split: [
                partial(self._read_shard, archive, split, start, found[start : start + step])
                for start in range(0, len(found), step)
            ]
            for split, found in pairs.items()
        }

    def _read_shard(
        self, archive: Archive, split: str, start: int, pairs: list[PairFiles]
    ) -> Iterator[tuple[int, dict]]:
        """Yield the pairs of a shard, decoded by several threads; problems are collected, not raised."""
        read = partial(read_pair, archive, form=self.builder_config.form)
        options = grain.ReadOptions(num_threads=os.cpu_count(), prefetch_buffer_size=2 * os.cpu_count())
        loaded = grain.MapDataset.source(pairs).map(read).to_iter_dataset(options)
        columns = self.info.metadata["pairs"][split]
        for position, (files, (images, facts, problems)) in enumerate(zip(pairs, loaded, strict=True), start):
            self._bar.update()
            self._problems += problems
            if self._problems:
                continue  # the rest is still read: all culprits are named at once
            names = {"sequence": files.sequence, "frame": files.frame}
            for key, value in {**names, **facts}.items():
                columns[key].append(value)
            for i, image in enumerate(images):
                yield position * 10**6 + i, {**image, **names, "position": position}

    def _make_plan(self, source: Path) -> Plan:
        archive = Archive(source)
        return archive, *plan_pairs(archive, self.builder_config.blur, partial=self._partial)

    def _check_space(self, num_pairs: int) -> None:
        needed = num_pairs * BYTES_PER_PAIR[self.builder_config.form]
        free = shutil.disk_usage(self.data_path.parent).free
        if needed > free:
            found = f"{needed / 1e6:,.0f} MB needed for {num_pairs:,} pairs, {free / 1e6:,.0f} MB free"
            raise InputError(f"{self.data_path.parent}: {found}. Make room or choose another disk.")

    def _check_present(self) -> None:
        """Refuse to pass off what is there as what was asked for."""
        remedy = f"Remove {self.data_dir} to prepare it anew, or choose another folder."
        metadata = self.info.metadata
        if metadata["partial"] and not self._partial:
            raise InputError(f"{self.data_dir}: holds a part of the data set; expected the whole. {remedy}")
        if self._source:
            archive, pairs, _ = self._make_plan(self._source)
            if _listing_sha256(archive, pairs) != metadata["listing_sha256"]:
                raise InputError(f"{self.data_dir}: was made from other files than those of {self._source}. {remedy}")


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep other processes from preparing data in the same folder.

    Raises:
        InputError: another one is at it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise InputError(f"{folder}: another process is preparing data here. Wait for it, or stop it.") from error
    finally:
        os.close(descriptor)


def _find_source(manual_dir: Path) -> Path:
    for name in ("GOPRO_Large.zip", "GOPRO_Large"):
        if (manual_dir / name).exists():
            return manual_dir / name
    raise InputError(f"{manual_dir}: no GOPRO_Large.zip and no folder GOPRO_Large. Put one there.")


def _listing_sha256(archive: Archive, pairs: dict[str, list[PairFiles]]) -> str:
    """Return a digest of the names and sizes of the files in use."""
    digest = hashlib.sha256()
    for split, found in pairs.items():
        for pair in found:
            sizes = f"{archive.sizes[pair.blur]}/{archive.sizes[pair.sharp]}"
            digest.update(f"{split}/{pair.sequence}/{pair.frame}/{sizes}\n".encode())
    return digest.hexdigest()
