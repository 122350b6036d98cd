"""Every config field: its default, its check and what it means, defined once.

`jaxdeblur config RECIPE` prints the fields of a recipe with these descriptions. Options of networks, optimizers and
schedules are the keyword arguments of what they name; see `options.py`.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from jaxdeblur.config.value_checks import (
    Check,
    boolean,
    factor_range,
    names,
    number,
    one_of,
    protocols,
    share,
    size,
    text,
)


@dataclass(frozen=True)
class Field:
    """A config field. `REQUIRED` as the default means that every config must set it."""

    default: Any
    check: Check
    description: str


REQUIRED = object()


# Looked up only when a value is checked, because these modules import JAX, Pillow or Grain.
def _compute_dtypes() -> Iterable[str]:
    from jaxdeblur.models import COMPUTE_DTYPES

    return COMPUTE_DTYPES


def _losses() -> Iterable[str]:
    from jaxdeblur.training.losses import LOSSES

    return LOSSES


def _splits() -> Iterable[str]:
    from jaxdeblur.data.splits import SPLIT_RULES

    return SPLIT_RULES


def _blur_variants() -> Iterable[str]:
    from jaxdeblur.data.folder_layout import BLUR_VARIANTS

    return BLUR_VARIANTS


def _resize_filters() -> Iterable[str]:
    from jaxdeblur.images.resize import RESIZE_FILTERS

    return RESIZE_FILTERS


FIELDS: dict[str, Field] = {
    "seed": Field(0, number(int, 0), "seed of the initial weights, the order of images and the augmentation"),
    "compilation_cache": Field(
        "",
        text("a path, or '' for the default"),
        "folder of compiled programs; '': JAX_COMPILATION_CACHE_DIR or ~/.cache/jaxdeblur/programs",
    ),
    "profile_steps": Field(0, number(int, 0), "training steps to trace at each start, for TensorBoard and Perfetto"),
    "ema_decay": Field(
        0.0,
        number(float, 0, 1),
        "decay per step of the exponential moving average of the parameters, which is then what is validated, scored "
        "and exported; 0.0: off",
    ),
    "compute.dtype": Field(
        "float32",
        one_of(_compute_dtypes),
        "dtype of the network's activations; parameters, statistics, loss, optimizer and output stay float32",
    ),
    "compute.remat": Field(False, boolean, "gradient checkpointing: less memory, more time"),
    "compute.cpu_fast_conv": Field(
        True, boolean, "on CPUs, use faster convolution algorithms, equal to the plain ones up to rounding"
    ),
    "init.network": Field(
        "",
        text("a shipped network's name, a path, or '' for random weights"),
        "weights of the whole network to start from: a shipped network's name, a run's folder or a .safetensors",
    ),
    "init.encoder": Field("", text("a path, or '' for none"), "pretrained weights of the encoder, a .safetensors"),
    "data.root": Field(
        "data/GOPRO_Large", text("a path"), "prepared data, or a folder with `train` and `test`, perhaps `validation`"
    ),
    "data.blur_variant": Field(
        "blur", one_of(_blur_variants), "which of GOPRO_Large's blurred images: 'blur' or 'blur_gamma'"
    ),
    "data.splits": Field(
        "official",
        one_of(_splits),
        "'official'; 'original': test entries 0-499 validate; for pairs without splits 'drawn' or 'none'; 'auto': draw "
        "the splits that are missing",
    ),
    "data.validation_sequences": Field(
        ("GOPR0477_11_00", "GOPR0857_11_00", "GOPR0884_11_00"),
        names,
        "sequences held out of `train` for validation; unused if the data has a folder `validation`",
    ),
    "data.skip_invalid": Field(False, boolean, "skip corrupt, unpaired or too-small images, and report them"),
    "data.resize": Field(256, size(16), "size in pixels of the square that frames are resized to; 0: not resized"),
    "data.resize_filter": Field("bicubic", one_of(_resize_filters), "Pillow's filter, antialiased"),
    "data.crop_scale": Field(
        (1.0, 1.0),
        factor_range,
        "with `resize`: range of the factor (log-uniform) by which a random window of the frame is smaller than the "
        "frame, before it is resized; (1.0, 1.0): off",
    ),
    "data.zoom": Field(
        (1.0, 1.0),
        factor_range,
        "without `resize`: range of the factor (log-uniform) by which frames are rescaled before the crop; "
        "(1.0, 1.0): off",
    ),
    "data.aspect_jitter": Field(
        1.0, number(float, 1), "largest ratio of the vertical to the horizontal factor and vice versa; 1.0: off"
    ),
    "data.flip_and_rotate": Field(False, boolean, "random flips and rotations by multiples of 90 degrees"),
    "data.permute_channels": Field(False, boolean, "random permutation of the colour channels"),
    "data.gain": Field(
        (1.0, 1.0), factor_range, "range of a random factor of all values (log-uniform), limited so that nothing clips"
    ),
    "data.batch_size": Field(16, number(int, 1), "images per step, over all devices"),
    "data.epoch_images": Field(
        0, number(int, 0), "images per epoch, after which a run validates and saves; 0: the number of training pairs"
    ),
    "data.num_threads": Field(8, number(int, 1, 1025), "threads that read images"),
    "data.cache_gib": Field(
        0.0, number(float, 0), "GiB of memory for decoded training images of folders; a 1280x720 pair takes 0.005"
    ),
    "evaluation.protocols": Field(
        ("256",),
        protocols,
        "'256': frames resized to 256x256 (any size), 'full': frames at their own size; the first validates training",
    ),
    "evaluation.lpips": Field("", text("a path, or '' for none"), "file of LPIPS weights; '': LPIPS is not measured"),
    "evaluation.batch_size": Field(16, number(int, 1), "images per batch when scoring; does not change the scores"),
    "evaluation.sample_count": Field(8, number(int, 1), "sample images to keep"),
    "checkpoint.keep_latest": Field(
        2, number(int, 1), "newest checkpoints to keep, besides the best; one is written per epoch"
    ),
    "log.every_steps": Field(10, number(int, 1), "training steps between two lines of the log"),
}

# Training pairs of another source: an entry of `data.mixture`.
MIXTURE_FIELDS: dict[str, Field] = {
    "root": Field(REQUIRED, text("a path"), "folder of the pairs, or prepared data"),
    "share": Field(REQUIRED, share, "share of every batch; data.root has the rest"),
    **{name: FIELDS[f"data.{name}"] for name in ("blur_variant", "resize", "crop_scale", "zoom", "aspect_jitter")},
}

STAGE_FIELDS: dict[str, Field] = {
    "epochs": Field(REQUIRED, number(int, 1), "epochs of the stage"),
    "crop": Field(0, size(8), "size in pixels of random square crops; 0: whole frames"),
    "loss": Field("mse", one_of(_losses), "training loss"),
    "accumulate": Field(1, number(int, 1), "micro-batches per step (gradient accumulation)"),
    "clip_norm": Field(0.0, number(float, 0), "largest global norm of the gradients; 0.0: not clipped"),
    "encoder.frozen_epochs": Field(0, number(int, 0), "epochs at the stage's start in which the encoder is frozen"),
    "encoder.lr_multiplier": Field(1.0, number(float, 0), "learning-rate multiplier of the encoder"),
}
