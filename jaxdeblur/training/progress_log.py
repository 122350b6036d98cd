"""Logs training: metrics and terminal lines, image strips, histograms. PSNR is in dB."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxdeblur.console import ProgressBar, say
from jaxdeblur.evaluation import scoring
from jaxdeblur.training.nan_checks import not_finite
from jaxdeblur.training.profiling import SpeedMeter
from jaxdeblur.training.run import Run
from jaxdeblur.training.stages import Stage
from jaxdeblur.training.tensor_histograms import Counts, name_histograms


def log_training(
    run: Run,
    stage: Stage,
    step: int,
    losses: list[float],
    speed_values: dict[str, float],
    meter: SpeedMeter,
    bar: ProgressBar,
) -> None:
    """Log the mean loss of the steps since the last line, the learning rate and the throughput."""
    speed = meter.images_per_second
    left = (run.total_steps - step) * run.batch_size / speed
    values = {
        "train/loss": float(np.mean(losses)),
        "train/learning_rate": stage.learning_rate(step - 1),
        "train/images_per_s": speed,
        **speed_values,
    }
    if run.log:
        run.log.scalars(step, stage.index, step / run.steps_per_epoch, values)
    bar.show(f"step {step}/{run.total_steps}, loss {values['train/loss']:.5f}, {speed:.1f} images/s", left)
    meter.restart()


def log_validation(run: Run, stage: Stage, step: int, result: scoring.Evaluation) -> float:
    """Log the scores of the validation split, with sample images, and return the mean PSNR per image.

    Raises:
        InputError: the scores are not finite.
    """
    summary = result.summary
    if not math.isfinite(summary.psnr):
        raise not_finite("The network's output is no longer finite after", stage, step)
    values = {f"validation/{name}": getattr(summary, name) for name in ("psnr", "psnr_batch16", "mse")}
    values["validation/identity_psnr"] = summary.identity.psnr
    epoch = step / run.steps_per_epoch
    if run.log:
        run.log.scalars(step, stage.index, epoch, values)
        run.log.images(step, "blur_prediction_sharp", [scoring.strip(sample) for sample in result.samples])
    gain = summary.psnr - summary.identity.psnr
    say(f"epoch {epoch:g}: validation PSNR {summary.psnr:.2f} dB, {gain:+.2f} dB against the blurred input")
    return summary.psnr


def log_histograms(run: Run, step: int, params: Mapping[str, Any], counts: Counts) -> None:
    """Log histograms of all weights and gradients to TensorBoard."""
    if run.log:
        run.log.histograms(step, name_histograms(counts, {"weights": params, "gradients": params}))
