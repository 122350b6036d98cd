"""LPIPS, the learned perceptual distance of Zhang et al. 2018 (CVPR), version 0.1 with AlexNet.

Images are RGB in [0, 1]. Lower is better; equal images have 0, up to rounding (under 1e-12). The weights are not
included. They combine two published files in one `.safetensors`: the convolutions of torchvision's AlexNet, and
`alex.pth` of the authors' repository (lpips/weights/v0.1):

    python tools/convert_weights.py to-jax --network lpips_alex --lin alex.pth alexnet-owt-7be5be79.pth FILE
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdeblur.errors import InputError
from jaxdeblur.evaluation.metrics import Metric
from jaxdeblur.weights.safetensors import read_weights
from jaxdeblur.weights.tensors import check_fit

NETWORK = "lpips_alex"
# AlexNet's convolutions: input and output channels, kernel size, stride, padding.
CONVOLUTIONS = (
    (3, 64, 11, 4, 2),
    (64, 192, 5, 1, 2),
    (192, 384, 3, 1, 1),
    (384, 256, 3, 1, 1),
    (256, 256, 3, 1, 1),
)
AFTER_POOLING = (1, 2)  # indices of the convolutions that follow a max pooling
SHAPES = {
    **{f"params/conv{i + 1}/kernel": (k, k, c_in, c_out) for i, (c_in, c_out, k, _, _) in enumerate(CONVOLUTIONS)},
    **{f"params/conv{i + 1}/bias": (c_out,) for i, (_, c_out, _, _, _) in enumerate(CONVOLUTIONS)},
    **{f"params/lin{i}/kernel": (1, 1, c_out, 1) for i, (_, c_out, _, _, _) in enumerate(CONVOLUTIONS)},
}
MIN_SIDE = 31  # pixels; the second pooling of a smaller image has no window
# ImageNet's mean and standard deviation for values in [-1, 1], with the authors' rounding.
SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)


def read_lpips(path: Path) -> Metric:
    """Return a function from a prediction, (H, W, 3) float, and its target, (H, W, 3) uint8, to their LPIPS.

    The prediction is clipped to [0, 1] and rounded to the nearest of 256 levels, since published tables report LPIPS of
    saved images. The function raises InputError for an image with a side under 31 pixels (code "image-too-small").

    Raises:
        InputError: the file is missing (code "lpips-missing"; the message states how to create it), corrupt, or of
            another network (code "lpips-wrong-network").
    """
    remedy = (
        "Create it once from torchvision's AlexNet and alex.pth of the LPIPS repository (lpips/weights/v0.1):\n"
        f"  python tools/convert_weights.py to-jax --network {NETWORK} --lin alex.pth --download alexnet {path}"
    )
    if not path.is_file():
        raise InputError(f"{path}: LPIPS weights not found. {remedy}", code="lpips-missing")
    variables, metadata = read_weights(path)
    if metadata["network"] != NETWORK:
        message = f"{path}: has weights of {metadata['network']}, expected {NETWORK}. {remedy}"
        raise InputError(message, code="lpips-wrong-network")
    check_fit(path, variables, SHAPES)
    variables = jax.device_put(variables)
    distances = jax.jit(lpips)

    def score(prediction: np.ndarray, sharp: np.ndarray) -> float:
        if min(sharp.shape[:2]) < MIN_SIDE:
            height, width = sharp.shape[:2]
            raise InputError(
                f"evaluation.lpips: LPIPS needs images of at least {MIN_SIDE}x{MIN_SIDE} pixels, found "
                f"{width}x{height}. Leave it empty for these images.",
                code="image-too-small",
            )
        rounded = np.round(np.clip(prediction, 0.0, 1.0) * 255.0) / 255.0
        pair = (image[None].astype(np.float32) for image in (rounded, sharp / 255.0))
        return float(distances(variables, *pair)[0])

    return score


def lpips(variables: Mapping[str, Any], images: jax.Array, references: jax.Array) -> jax.Array:
    """Return the distances, (B,), between images and references, both (B, H, W, 3) float32 in [0, 1] of at least 31x31.

    Equation 1 of the paper: at each of five layers, features are normalised to unit length along the channels; their
    squared differences are summed over channels with learned weights and averaged over positions. The distance is the
    sum over layers.
    """
    params = variables["params"]
    total = jnp.zeros(images.shape[0])
    for i, features in enumerate(_features(params, jnp.concatenate([images, references]))):
        x, y = jnp.split(_unit_length(features), 2)
        weights = params[f"lin{i}"]["kernel"][0, 0, :, 0]
        # A sum instead of a matrix product, whose operands accelerators round to lower precision.
        total += (jnp.square(x - y) * weights).sum(-1).mean((1, 2))
    return total


def _features(params: Mapping[str, Any], images: jax.Array) -> list[jax.Array]:
    """Return AlexNet's five feature maps (B, h, w, C), each after its ReLU."""
    x = (2.0 * images - 1.0 - jnp.array(SHIFT)) / jnp.array(SCALE)
    features = []
    for i, (_, _, _, stride, padding) in enumerate(CONVOLUTIONS):
        if i in AFTER_POOLING:
            x = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 3, 3, 1), (1, 2, 2, 1), "VALID")
        layer = params[f"conv{i + 1}"]
        x = jax.lax.conv_general_dilated(
            x,
            layer["kernel"],
            (stride, stride),
            ((padding, padding),) * 2,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            precision=jax.lax.Precision.HIGHEST,
        )
        x = jax.nn.relu(x + layer["bias"])
        features.append(x)
    return features


def _unit_length(features: jax.Array) -> jax.Array:
    return features / (jnp.sqrt(jnp.square(features).sum(-1, keepdims=True)) + 1e-10)
