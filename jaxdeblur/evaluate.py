"""A split of pairs to one record per image, a summary and sample images, always beside the identity.

The identity is the network that changes nothing: its score is the blurred input's own. Images are NHWC RGB; PSNR in
dB; metrics are those of `metrics.py`.
"""

import dataclasses
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from jaxdeblur import metrics, statistics
from jaxdeblur.data.pipeline import InputOptions
from jaxdeblur.files import code_version, write_json

Predict = Callable[[Any, np.ndarray], np.ndarray]


@dataclasses.dataclass
class Evaluation:
    """What one pass over a split found.

    Attributes:
        images: one record each: `sequence`, `frame`, the metrics, and `identity` with the blurred input's.
        samples: some of the images themselves: `sequence`, `frame`, and uint8 `blur`, `prediction`, `sharp`.
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
            "gain_psnr": statistics.gain_over_identity(self.images),
        }


def to_float(images: jax.Array) -> jax.Array:
    """Return uint8 images as float32 in [0, 1]."""
    return images.astype(jnp.float32) / 255.0


def make_predict(model: nn.Module, batch_sharding: jax.sharding.Sharding) -> Predict:
    """Return a compiled function from (variables, uint8 batch (B, H, W, 3)) to float32 predictions, unclipped."""

    forward = make_forward(model)
    return lambda variables, blur: np.asarray(forward(variables, jax.device_put(blur, batch_sharding)))


def make_forward(model: nn.Module) -> Callable[[Any, jax.Array], jax.Array]:
    """Return the program of `make_predict`, which takes and returns arrays on devices."""

    def forward(variables: Any, blur: jax.Array) -> jax.Array:
        return model.apply(variables, to_float(blur), train=False)

    return jax.jit(forward)


def evaluate(
    predict: Predict,
    variables: Any,
    pairs: Iterable[dict],
    *,
    num_pairs: int,
    batch_size: int,
    sample_count: int,
    first: int = 0,
) -> Evaluation:
    """Score every pair.

    Args:
        predict: from (variables, uint8 batch) to predictions.
        variables: the network's weights.
        pairs: `blur` and `sharp` uint8 (H, W, 3), `sequence`, `frame`; sizes may differ.
        num_pairs: how many pairs the split has.
        batch_size: images predicted at once; the last batch is filled up, never dropped.
        sample_count: images to keep, evenly spaced over the split.
        first: place in the split of the first of `pairs`, which may be a part of it.
    """
    wanted = set(np.linspace(0, num_pairs - 1, min(sample_count, num_pairs)).round().astype(int).tolist())
    result = Evaluation([], [])
    for batch in _batches_of_one_size(pairs, batch_size):
        blur = np.stack([pair["blur"] for pair in batch] + [batch[-1]["blur"]] * (batch_size - len(batch)))
        predictions = predict(variables, blur)[: len(batch)]
        for pair, prediction in zip(batch, predictions, strict=True):
            if first + len(result.images) in wanted:
                result.samples.append({**pair, "prediction": to_uint8(prediction)})
            result.images.append(_record(pair, prediction))
    return result


def join_parts(parts: Iterable[Evaluation]) -> Evaluation:
    """Return one evaluation of parts of a split that follow one another."""
    whole = Evaluation([], [])
    for part in parts:
        whole.images.extend(part.images)
        whole.samples.extend(part.samples)
    return whole


def to_uint8(image: np.ndarray) -> np.ndarray:
    """Return a float image in [0, 1] as uint8: clipped, rounded to the nearest level; NaN is shown black."""
    return np.round(np.clip(np.nan_to_num(image), 0.0, 1.0) * 255.0).astype(np.uint8)


def strip(sample: dict) -> np.ndarray:
    """Return blur, prediction and sharp of a sample side by side, uint8 (H, 3 W, 3)."""
    return np.concatenate([sample["blur"], sample["prediction"], sample["sharp"]], axis=1)


def make_protocol(
    options: InputOptions,
    *,
    data_set: str,
    split: str,
    splits: str,
    blur: str,
    num_images: int,
    num_skipped: int,
    weights_sha256: str,
    checkpoint_step: int,
) -> dict:
    """Return what one must know to compare the numbers: data, resolution, weights and code."""
    return {
        "data_set": data_set,
        "split": split,
        "split_rule": splits,
        "blur_variant": blur,
        "resolution": str(options.resize) if options.resize else "full",
        "resize_filter": options.resize_filter if options.resize else "none",
        "number_of_images": num_images,
        "pairs_skipped": num_skipped,
        "weights_sha256": weights_sha256,
        "checkpoint_step": checkpoint_step,
        "code_version": code_version(),
    }


def evaluation_path(folder: Path, protocol: dict) -> Path:
    """Return where an evaluation is kept: `<split>-<resolution>.json`; '256' is resized to 256x256, 'full' is not."""
    return folder / f"{protocol['split']}-{protocol['resolution']}.json"


def write_evaluation(path: Path, protocol: dict, result: Evaluation) -> None:
    """Write `protocol`, `summary`, `images` and `samples` as JSON, and the sample images into a folder beside it.

    `samples` names the images' files, relative to the JSON's folder.
    """
    folder = path.with_suffix("")
    folder.mkdir(parents=True, exist_ok=True)
    samples = []
    for i, sample in enumerate(result.samples):
        files = {key: f"{folder.name}/{i:03d}-{key}.png" for key in ("blur", "prediction", "sharp")}
        for key, file in files.items():
            Image.fromarray(sample[key]).save(path.parent / file)
        samples.append({"sequence": sample["sequence"], "frame": sample["frame"], "files": files})
    record = {"protocol": protocol, "summary": result.summary, "images": result.images, "samples": samples}
    write_json(path, record)


def _batches_of_one_size(pairs: Iterable[dict], batch_size: int) -> Iterable[list[dict]]:
    batch = []
    for pair in pairs:
        if batch and (len(batch) == batch_size or pair["blur"].shape != batch[0]["blur"].shape):
            yield batch
            batch = []
        batch.append(pair)
    if batch:
        yield batch


def _record(pair: dict, prediction: np.ndarray) -> dict:
    return {
        "sequence": pair["sequence"],
        "frame": pair["frame"],
        **metrics.image_metrics(prediction, pair["sharp"]),
        "identity": metrics.image_metrics(pair["blur"] / 255.0, pair["sharp"]),
    }
