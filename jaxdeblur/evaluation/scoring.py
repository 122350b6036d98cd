"""Scores the pairs of a split: one record per image, a summary and sample images.

Every score comes with that of the blurry input, called `identity`: the score of a network that changes nothing. Images
are (H, W, 3) RGB; metrics are those of `metrics.py`.
"""

import dataclasses
import functools
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from jaxdeblur.data.pair_source import NamedPair
from jaxdeblur.evaluation import confidence, metrics
from jaxdeblur.files import write_json
from jaxdeblur.images.arrays import to_uint8
from jaxdeblur.runs.records import (
    EvaluationRecord,
    ImageName,
    ImageRecord,
    ProtocolRecord,
    SampleFiles,
    SampleRecord,
    SpeedRecord,
    Summary,
    to_json,
)

# From (variables, uint8 images of one size (B, H, W, 3)) to float predictions (B, H, W, 3).
Predict = Callable[[Any, np.ndarray], np.ndarray]


@dataclasses.dataclass(frozen=True)
class ScoringOptions:
    """How images are scored.

    Attributes:
        batch_size: maximum number of images per call of the network.
        num_threads: threads that compute metrics while the next batch is predicted.
        similarity: compute both variants of SSIM.
        lpips: as `lpips.read_lpips` returns it; None to leave LPIPS out.
    """

    batch_size: int
    num_threads: int
    similarity: bool = True
    lpips: metrics.Metric | None = None


@dataclasses.dataclass(frozen=True)
class Sample(ImageName):
    """An image that is saved: uint8 `blur`, `prediction` and `sharp`, and why it was chosen (see `SampleRecord`)."""

    why: tuple[str, ...]
    blur: np.ndarray
    prediction: np.ndarray
    sharp: np.ndarray


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """The scores of all images of a split, in order, and some of the images themselves."""

    images: list[ImageRecord]
    samples: list[Sample]

    @functools.cached_property
    def summary(self) -> Summary:
        """Means over images, those of the blurry input, and the PSNR gain over it with its 95% interval."""
        return Summary(
            **dataclasses.asdict(metrics.summarize(self.images)),
            identity=metrics.summarize([image.identity for image in self.images]),
            gain_psnr=confidence.gain_over_identity(self.images),
        )


def evaluate(
    predict: Predict,
    variables: Any,
    pairs: Iterable[NamedPair],
    options: ScoringOptions,
    *,
    sample_indices: Collection[int] = (),
) -> Evaluation:
    """Score every pair.

    Args:
        predict: the network.
        variables: the network's weights.
        pairs: images of different pairs may differ in size.
        options: how to score.
        sample_indices: positions in `pairs` of the images to keep as samples.
    """
    images: list[ImageRecord] = []
    samples: list[Sample] = []
    pending: list[Future[ImageRecord]] = []
    index = 0
    with ThreadPoolExecutor(options.num_threads) as threads:
        for batch in _batch_by_size(pairs, options.batch_size):
            predictions = predict(variables, np.stack([pair["blur"] for pair in batch]))
            # Metrics are computed while the next batch is predicted. To bound memory, at most one batch is pending.
            images += [record.result() for record in pending]
            pending = [
                threads.submit(_score_image, pair, prediction, options)
                for pair, prediction in zip(batch, predictions, strict=True)
            ]
            for pair, prediction in zip(batch, predictions, strict=True):
                if index in sample_indices:
                    samples.append(_make_sample(pair, prediction))
                index += 1
        images += [record.result() for record in pending]
    return Evaluation(images, samples)


def spread_indices(num_images: int, count: int) -> set[int]:
    """Return `count` indices (at most all) that are evenly spaced over a split, including the first and the last."""
    return set(np.linspace(0, num_images - 1, min(count, num_images)).round().astype(int).tolist())


def find_extremes(images: Sequence[ImageRecord]) -> dict[str, tuple[str, str]]:
    """Return (sequence, frame) of the images with the `best`, the `median` and the `worst` PSNR gain."""
    ordered = sorted(images, key=lambda image: image.gain_psnr)
    return {"best": ordered[-1].name, "median": ordered[len(ordered) // 2].name, "worst": ordered[0].name}


def join_parts(parts: Iterable[Evaluation]) -> Evaluation:
    """Concatenate the evaluations of consecutive parts of a split."""
    parts = list(parts)
    return Evaluation(
        [image for part in parts for image in part.images], [sample for part in parts for sample in part.samples]
    )


def strip(sample: Sample) -> np.ndarray:
    """Return blur, prediction and sharp of a sample next to each other, uint8 (H, 3 W, 3)."""
    return np.concatenate([sample.blur, sample.prediction, sample.sharp], axis=1)


def evaluation_path(folder: Path, protocol: ProtocolRecord) -> Path:
    """Return the path of an evaluation's record: `<split>-<resolution>.json`."""
    return folder / f"{protocol.name}.json"


def write_evaluation(path: Path, protocol: ProtocolRecord, result: Evaluation, speed: SpeedRecord) -> None:
    """Write an `EvaluationRecord` as JSON, and the sample images as PNG in a folder of the same name."""
    folder = path.with_suffix("")
    folder.mkdir(parents=True, exist_ok=True)
    samples = []
    for i, sample in enumerate(result.samples):
        files = SampleFiles(*(f"{folder.name}/{i:03d}-{kind}.png" for kind in ("blur", "prediction", "sharp")))
        for kind, file in dataclasses.asdict(files).items():
            Image.fromarray(getattr(sample, kind)).save(path.parent / file)
        samples.append(SampleRecord(sample.sequence, sample.frame, list(sample.why), files))
    record = EvaluationRecord(protocol, result.summary, speed, result.images, samples)
    write_json(path, to_json(record))


def _batch_by_size(pairs: Iterable[NamedPair], batch_size: int) -> Iterator[list[NamedPair]]:
    """Yield consecutive pairs of one image size, at most `batch_size` at a time."""
    batch: list[NamedPair] = []
    for pair in pairs:
        if batch and (len(batch) == batch_size or pair["blur"].shape != batch[0]["blur"].shape):
            yield batch
            batch = []
        batch.append(pair)
    if batch:
        yield batch


def _make_sample(pair: NamedPair, prediction: np.ndarray) -> Sample:
    return Sample(
        sequence=pair["sequence"],
        frame=pair["frame"],
        why=("spread",),
        blur=pair["blur"],
        prediction=to_uint8(prediction),
        sharp=pair["sharp"],
    )


def _score_image(pair: NamedPair, prediction: np.ndarray, options: ScoringOptions) -> ImageRecord:
    measure = functools.partial(metrics.image_metrics, similarity=options.similarity, lpips=options.lpips)
    return ImageRecord(
        sequence=pair["sequence"],
        frame=pair["frame"],
        **dataclasses.asdict(measure(prediction, pair["sharp"])),
        identity=measure(pair["blur"] / 255.0, pair["sharp"]),
    )
