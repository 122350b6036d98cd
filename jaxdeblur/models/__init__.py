"""The networks by name. Each maps (B, H, W, 3) float32 in [0, 1] to the same shape: `model(x, train)`."""

import dataclasses
from typing import Any

import flax.linen as nn

from jaxdeblur.models.msresnet import MSResNet
from jaxdeblur.models.nafnet import NAFNet
from jaxdeblur.models.network import Network
from jaxdeblur.models.resnetencdec import ResnetEncDec
from jaxdeblur.models.transformnet import TransformNet
from jaxdeblur.models.unet import UNet

MODELS: dict[str, type[Network]] = {
    "msresnet": MSResNet,
    "nafnet": NAFNet,
    "resnetencdec": ResnetEncDec,
    "transformnet": TransformNet,
    "unet": UNet,
}
# The encoder's name among the variables, for networks that have one.
ENCODERS = {name: model.encoder for name, model in MODELS.items() if model.encoder}
COMPUTE_DTYPES = ("float32", "bfloat16")
# Fields that determine how a network computes, not what it is; `parent` and `name` are flax's.
_NOT_OPTIONS = ("dtype", "remat", "cpu_fast_conv", "parent", "name")


def sees_whole_image(model: nn.Module) -> bool:
    """Return whether the receptive field is the whole image, so that tiles would give another result."""
    return isinstance(model, Network) and model.sees_whole_image


def min_tile_overlap(model: nn.Module) -> int:
    """Return the smallest overlap of tiles, in pixels, that the network's tiles must have."""
    return model.min_tile_overlap if isinstance(model, Network) else 0


def pads_with_zeros(model: nn.Module) -> bool:
    """Return whether the network pads images with zeros instead of by reflection."""
    return isinstance(model, Network) and model.pads_with_zeros


def needs_position(model: nn.Module) -> bool:
    """Return whether the network must know where a tile lies in the image."""
    return isinstance(model, Network) and model.needs_position


def prefers_ynnpack_matmul(model: nn.Module) -> bool:
    """Return whether training is faster on CPUs with XLA's YNNPACK kernels for matrix products."""
    return isinstance(model, Network) and model.prefers_ynnpack_matmul


def build_model(name: str, **options: Any) -> Network:
    """Return the network called `name` with the given fields, which include `dtype` (its name is enough) and `remat`.

    Lists, which is what JSON turns tuples into, become tuples: jit needs hashable modules.

    Raises:
        KeyError: there is no network of that name.
        TypeError: the network has no such field.
    """
    hashable: Any = {key: tuple(value) if isinstance(value, list) else value for key, value in options.items()}
    return MODELS[name](**hashable)


def options_of(model: nn.Module) -> dict[str, Any]:
    """Return the options, such as `width`, from which `build_model` builds the same architecture.

    `dtype`, `remat` and `cpu_fast_conv` are left out: they change neither the parameters nor, up to rounding, the
    output.
    """
    return {
        field.name: getattr(model, field.name)
        for field in dataclasses.fields(model)
        if field.init and field.name not in _NOT_OPTIONS
    }
