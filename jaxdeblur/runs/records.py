"""The schema of the records in a run's folder, shared by those who write them and those who read them.

Fields are the JSON keys. PSNR and its gains are in dB; MAE and MSE are of values in [0, 1].
"""

import dataclasses
from pathlib import Path
from typing import Any

from jaxdeblur.files import write_json
from jaxdeblur.runs.typed_json import NOT_NULL


@dataclasses.dataclass(frozen=True)
class ImageMetrics:
    """The metrics of one image; see `evaluation.metrics.image_metrics`. None: not measured or undefined."""

    psnr: float
    psnr_uint8: float
    ssim: float | None
    ssim_matlab: float | None = dataclasses.field(metadata=NOT_NULL)  # None only in a quick validation
    lpips: float | None
    mae: float
    mse: float


@dataclasses.dataclass(frozen=True)
class MeanMetrics:
    """Means of `ImageMetrics` over images, and the pooled PSNR; see `evaluation.metrics.summarize`."""

    psnr: float
    psnr_uint8: float
    psnr_batch16: float
    ssim: float | None
    ssim_matlab: float | None = dataclasses.field(metadata=NOT_NULL)
    lpips: float | None
    mae: float
    mse: float


@dataclasses.dataclass(frozen=True)
class Interval:
    """A mean over images with its 95% interval over sequences; see `evaluation.confidence.interval`.

    Attributes:
        mean: over images.
        low: lower end of the interval; None if there is only one sequence.
        high: upper end.
        images: number of images.
        sequences: number of sequences.
        method: `bootstrap_t`, `student_t`, or None without an interval.
        resamples: number of bootstrap resamples; 0 unless `bootstrap_t`.
    """

    mean: float
    low: float | None
    high: float | None
    images: int
    sequences: int
    method: str | None
    resamples: int


@dataclasses.dataclass(frozen=True)
class Gain(Interval):
    """A mean difference between two sets of scores of the same images; positive is better for every metric."""

    images_better: int


@dataclasses.dataclass(frozen=True)
class ProtocolKey:
    """The fields that must be equal in two evaluations for their numbers to be comparable.

    Attributes:
        data_set: its name.
        split: `validation` or `test`.
        split_rule: how sequences were assigned to splits.
        blur_variant: GOPRO's `blur` or `blur_gamma`.
        resolution: `full`, or the size in pixels that whole frames were resized to.
        resize_filter: `none` at full resolution.
        number_of_images: that were evaluated.
    """

    data_set: str
    split: str
    split_rule: str
    blur_variant: str
    resolution: str
    resize_filter: str
    number_of_images: int


@dataclasses.dataclass(frozen=True)
class ProtocolRecord(ProtocolKey):
    """How the numbers of an evaluation were obtained.

    Attributes:
        pairs_skipped: invalid pairs that were left out.
        weights: where they come from.
        weights_sha256: fingerprint of the weights.
        checkpoint_step: None for weights from a file.
        code_version: of this package.
        date: ISO 8601, UTC.
    """

    pairs_skipped: int
    weights: str
    weights_sha256: str
    checkpoint_step: int | None
    code_version: str
    date: str

    @property
    def name(self) -> str:
        """`<split>-<resolution>`, the name of the evaluation's file."""
        return f"{self.split}-{self.resolution}"

    @property
    def key(self) -> ProtocolKey:
        """The part that must be equal for numbers to be comparable."""
        return ProtocolKey(**{field.name: getattr(self, field.name) for field in dataclasses.fields(ProtocolKey)})


@dataclasses.dataclass(frozen=True)
class ImageName:
    """What identifies an image within a split."""

    sequence: str
    frame: str

    @property
    def name(self) -> tuple[str, str]:
        """(sequence, frame)."""
        return self.sequence, self.frame


@dataclasses.dataclass(frozen=True)
class ImageRecord(ImageMetrics, ImageName):
    """The metrics of one prediction, and in `identity` those of its blurry input."""

    identity: ImageMetrics

    @property
    def gain_psnr(self) -> float:
        """PSNR gain over the input."""
        return self.psnr - self.identity.psnr


@dataclasses.dataclass(frozen=True)
class SampleFiles:
    """PNG files of a sample, relative to the record's folder."""

    blur: str
    prediction: str
    sharp: str


@dataclasses.dataclass(frozen=True)
class SampleRecord(ImageName):
    """An image that was saved; `why` is one or more of `spread`, `best`, `median`, `worst`."""

    why: list[str]
    files: SampleFiles


@dataclasses.dataclass(frozen=True)
class Summary(MeanMetrics):
    """Means over the images of a split, those of the blurry input, and the gain in PSNR over it."""

    identity: MeanMetrics
    gain_psnr: Gain


@dataclasses.dataclass(frozen=True)
class SpeedRecord:
    """Throughput of prediction, from host memory to host memory, without compilation and metrics.

    Attributes:
        images_per_s: on all devices of one process.
        flops_per_image: as the compiler counts them; None if it does not.
        devices: their number and kind.
    """

    images_per_s: float
    flops_per_image: float | None
    devices: str


@dataclasses.dataclass(frozen=True)
class EvaluationRecord:
    """One `eval/<split>-<resolution>.json`."""

    protocol: ProtocolRecord
    summary: Summary
    speed: SpeedRecord
    images: list[ImageRecord]
    samples: list[SampleRecord]


@dataclasses.dataclass(frozen=True)
class HistoryEntry:
    """An entry of `eval/test_history.json`, which lists every evaluation on the test split."""

    date: str
    resolution: str
    checkpoint_step: int | None
    weights_sha256: str


@dataclasses.dataclass(frozen=True)
class CheckpointScore:
    """Validation scores of one checkpoint."""

    step: int
    psnr: float
    gain_psnr: Gain


@dataclasses.dataclass(frozen=True)
class CheckpointScores:
    """`eval/checkpoints.json`; `protocol` is a `ProtocolRecord` without a weights fingerprint."""

    protocol: dict[str, Any]
    checkpoints: list[CheckpointScore]
    best_step: int


@dataclasses.dataclass(frozen=True)
class MixturePart:
    """Further training data: `share` of the training examples are from it."""

    data_set: str
    share: float


@dataclasses.dataclass(frozen=True)
class RunFacts:
    """The part of `run.json` that reports show.

    Attributes:
        network: its name, with what distinguishes a variant.
        parameters: number of trainable parameters.
        initial_weights: where they come from.
        data_set: its name.
        pairs: number of pairs by split, and by field of the data that is mixed in.
        command: that started the run.
        devices: of the first start.
        pairs_skipped: invalid pairs by split; one number in the oldest runs.
        mixture: by field, data that is mixed in.
        trained: False for a folder that evaluates weights trained elsewhere.
    """

    network: str
    parameters: int
    initial_weights: str
    data_set: str
    pairs: dict[str, int]
    command: list[str]
    devices: str
    code_version: str
    python: str
    jax: str
    flax: str
    optax: str
    pairs_skipped: dict[str, int] | int | None = None
    mixture: dict[str, MixturePart] = dataclasses.field(default_factory=dict)
    trained: bool = True


def write_record(path: Path, record: Any) -> None:
    """Write a dataclass, or a list of them, as JSON, atomically; creates the folder if it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, to_json(record))


def to_json(record: Any) -> Any:
    """Return a dataclass, or a list of them, as a tree that `json.dumps` accepts."""
    return [to_json(item) for item in record] if isinstance(record, list) else dataclasses.asdict(record)
