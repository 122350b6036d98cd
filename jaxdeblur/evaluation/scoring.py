"""A split of pairs to one record per image, a summary and sample images, always beside the identity.

The identity is the network that changes nothing: its score is the blurred input's own. Images are NHWC RGB; PSNR in
dB; metrics are those of `metrics.py`.
"""

import dataclasses
import datetime
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from jaxdeblur.data.augment import InputOptions
from jaxdeblur.data.pair_source import NamedPair
from jaxdeblur.evaluation import confidence, metrics
from jaxdeblur.files import write_json
from jaxdeblur.images.arrays import to_uint8
from jaxdeblur.runs.environment import code_version

Predict = Callable[[Any, np.ndarray], np.ndarray]
PICTURES = ("blur", "prediction", "sharp")


@dataclasses.dataclass(frozen=True)
class Measures:
    """What is measured of an image besides errors.

    Attributes:
        similarity: both kinds of SSIM.
        lpips: from (prediction, sharp) to LPIPS; None where its weights are not at hand.
    """

    similarity: bool
    lpips: metrics.Score | None


@dataclasses.dataclass
class Evaluation:
    """What one pass over a split found.

    Attributes:
        images: one record each: `sequence`, `frame`, the metrics, and `identity` with the blurred input's.
        samples: some of the images themselves: `sequence`, `frame`, `why` they were kept (`spread`, `best`, `median`,
            `worst`), and uint8 `blur`, `prediction`, `sharp`.
    """

    images: list[dict]
    samples: list[dict]

    @property
    def summary(self) -> dict:
        """Means over images, those of the identity, and the PSNR gain over it with its 95% interval."""
        identity = [image["identity"] for image in self.images]
        return {
            **metrics.summarize(self.images),
            "identity": metrics.summarize(identity),
            "gain_psnr": confidence.gain_over_identity(self.images),
        }


def evaluate(
    predict: Predict,
    variables: Any,
    pairs: Iterable[NamedPair],
    *,
    num_pairs: int,
    batch_size: int,
    sample_count: int,
    measures: Measures,
    num_threads: int,
    first: int = 0,
) -> Evaluation:
    """Score every pair.

    Args:
        predict: from (variables, uint8 images of one size) to predictions.
        variables: the network's weights.
        pairs: `blur` and `sharp` uint8 (H, W, 3), `sequence`, `frame`; sizes may differ.
        num_pairs: how many pairs the split has.
        batch_size: most images given to `predict` at once.
        sample_count: images to keep, evenly spaced over the split.
        measures: what is measured besides errors.
        num_threads: threads that measure, while the next batch is predicted.
        first: place in the split of the first of `pairs`, which may be a part of it.
    """
    wanted = set(np.linspace(0, num_pairs - 1, min(sample_count, num_pairs)).round().astype(int).tolist())
    result, waiting, place = Evaluation([], []), [], first
    with ThreadPoolExecutor(num_threads) as threads:
        for batch in _batches_of_one_size(pairs, batch_size):
            predictions = predict(variables, np.stack([pair["blur"] for pair in batch]))
            # Measured while the next batch is predicted; not more than one batch waits, for the sake of memory.
            result.images += [record.result() for record in waiting]
            waiting = [
                threads.submit(_record, *of_image, measures) for of_image in zip(batch, predictions, strict=True)
            ]
            for pair, prediction in zip(batch, predictions, strict=True):
                if place in wanted:
                    result.samples.append({**pair, "why": ["spread"], "prediction": to_uint8(prediction)})
                place += 1
        result.images += [record.result() for record in waiting]
    return result


def find_extremes(images: list[dict]) -> dict[str, tuple[str, str]]:
    """Return sequence and frame of the images with the `best`, the `median` and the `worst` PSNR gain."""
    ordered = sorted(images, key=lambda image: image["psnr"] - image["identity"]["psnr"])
    chosen = {"best": ordered[-1], "median": ordered[len(ordered) // 2], "worst": ordered[0]}
    return {why: (image["sequence"], image["frame"]) for why, image in chosen.items()}


def join_parts(parts: Iterable[Evaluation]) -> Evaluation:
    """Return one evaluation of parts of a split that follow one another."""
    whole = Evaluation([], [])
    for part in parts:
        whole.images.extend(part.images)
        whole.samples.extend(part.samples)
    return whole


def strip(sample: dict) -> np.ndarray:
    """Return blur, prediction and sharp of a sample side by side, uint8 (H, 3 W, 3)."""
    return np.concatenate([sample[key] for key in PICTURES], axis=1)


def make_protocol(
    options: InputOptions,
    *,
    data_set: str,
    split: str,
    splits: str,
    blur: str,
    num_images: int,
    num_skipped: int,
    weights: str,
    weights_sha256: str,
    checkpoint_step: int | None,
) -> dict:
    """Return what one must know to compare the numbers: data, resolution, weights, code and date."""
    return {
        "data_set": data_set,
        "split": split,
        "split_rule": splits,
        "blur_variant": blur,
        "resolution": str(options.resize) if options.resize else "full",
        "resize_filter": options.resize_filter if options.resize else "none",
        "number_of_images": num_images,
        "pairs_skipped": num_skipped,
        "weights": weights,
        "weights_sha256": weights_sha256,
        "checkpoint_step": checkpoint_step,
        "code_version": code_version(),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def evaluation_path(folder: Path, protocol: dict) -> Path:
    """Return where an evaluation is kept: `<split>-<resolution>.json`; '256' is resized to 256x256, 'full' is not."""
    return folder / f"{protocol['split']}-{protocol['resolution']}.json"


def write_evaluation(path: Path, protocol: dict, result: Evaluation, speed: dict[str, Any]) -> None:
    """Write `protocol`, `summary`, `speed`, `images` and `samples` as JSON, and the sample images beside it.

    `samples` names the images' files, relative to the JSON's folder.
    """
    folder = path.with_suffix("")
    folder.mkdir(parents=True, exist_ok=True)
    samples = []
    for i, sample in enumerate(result.samples):
        files = {key: f"{folder.name}/{i:03d}-{key}.png" for key in PICTURES}
        for key, file in files.items():
            Image.fromarray(sample[key]).save(path.parent / file)
        samples.append({**{key: sample[key] for key in ("sequence", "frame", "why")}, "files": files})
    record = {"protocol": protocol, "summary": result.summary, "speed": speed, "images": result.images}
    write_json(path, {**record, "samples": samples})


def _batches_of_one_size(pairs: Iterable[NamedPair], batch_size: int) -> Iterable[list[NamedPair]]:
    batch = []
    for pair in pairs:
        if batch and (len(batch) == batch_size or pair["blur"].shape != batch[0]["blur"].shape):
            yield batch
            batch = []
        batch.append(pair)
    if batch:
        yield batch


def _record(pair: dict, prediction: np.ndarray, measures: Measures) -> dict:
    how = {"similarity": measures.similarity, "lpips": measures.lpips}
    return {
        "sequence": pair["sequence"],
        "frame": pair["frame"],
        **metrics.image_metrics(prediction, pair["sharp"], **how),
        "identity": metrics.image_metrics(pair["blur"] / 255.0, pair["sharp"], **how),
    }
