"""The networks by name. Each maps (B, H, W, 3) float32 in [0, 1] to the same shape: `model(x, train)`."""

import dataclasses
from typing import Any

import flax.linen as nn

from jaxdeblur.models import resnetencdec
from jaxdeblur.models.nafnet import NAFNet
from jaxdeblur.models.resnetencdec import ResnetEncDec
from jaxdeblur.models.transformnet import TransformNet
from jaxdeblur.models.unet import UNet

MODELS = {"nafnet": NAFNet, "resnetencdec": ResnetEncDec, "transformnet": TransformNet, "unet": UNet}

# Of networks that have an encoder, which can be filled, frozen and trained at a rate of its own: its name among the
# variables, as in params/backbone/conv1/kernel.
ENCODERS = {"resnetencdec": resnetencdec.ENCODER}
COMPUTE_DTYPES = ("float32", "bfloat16")
# Attributes that say how a network computes, not what it is; `parent` and `name` are flax's own.
_NOT_OPTIONS = ("dtype", "remat", "cpu_fast_conv", "parent", "name")


def sees_whole_image(model: nn.Module) -> bool:
    """Return whether every pixel depends on the whole image, so that a part becomes something else than it does there.

    What any network makes of a pixel depends on its surroundings, so far as its layers reach; this has no such bound.
    """
    return getattr(model, "attention", "none") == "global"


def needs_position(model: nn.Module) -> bool:
    """Return whether the network must be told where a tile lies in the image; most compute the same everywhere."""
    return getattr(model, "needs_position", False)


def trains_by_products(model: nn.Module) -> bool:
    """Return whether so much of training is products of matrices that on CPUs the kernels for these decide.

    A ResNet-50 has two 1x1 convolutions for each of 3x3; in others the products of the 3x3 ones decide
    (docs/performance.md).
    """
    return isinstance(model, ResnetEncDec)


def build_model(name: str, **options: object) -> nn.Module:
    """Return the network called `name` with the given attributes, `dtype` (a name will do) and `remat` among them.

    Lists, as JSON gives back a config's tuples, become tuples: a network must be hashable for jit to know it again.

    Raises:
        KeyError: no network has that name.
        TypeError: the network has no such attribute.
    """
    return MODELS[name](**{key: tuple(value) if isinstance(value, list) else value for key, value in options.items()})


def options_of(model: nn.Module) -> dict[str, Any]:
    """Return the attributes, such as `width`, with which `build_model` builds this network again.

    `dtype`, `remat` and `cpu_fast_conv` are left out: they change neither the weights nor, beyond rounding, the result.
    """
    return {
        field.name: getattr(model, field.name)
        for field in dataclasses.fields(model)
        if field.init and field.name not in _NOT_OPTIONS
    }
