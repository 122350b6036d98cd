"""The networks by name. Each maps (B, H, W, 3) float32 in [0, 1] to the same shape: `model(x, train)`."""

import flax.linen as nn

from jaxdeblur.models.resnetencdec import ResnetEncDec
from jaxdeblur.models.transformnet import TransformNet
from jaxdeblur.models.unet import UNet

MODELS = {"resnetencdec": ResnetEncDec, "transformnet": TransformNet, "unet": UNet}


def build_model(name: str, **options: object) -> nn.Module:
    """Return the network called `name` with the given attributes.

    Raises:
        KeyError: no network has that name.
        TypeError: the network has no such attribute.
    """
    return MODELS[name](**options)
