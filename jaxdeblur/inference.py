"""A network applied to images: uint8 NHWC RGB in, float32 predictions in about [0, 1] out, unclipped."""

import time
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxdeblur.programs import Program, compile_program


def to_float(images: jax.Array) -> jax.Array:
    """Return uint8 images as float32 in [0, 1]."""
    return images.astype(jnp.float32) / 255.0


def to_uint8(image: np.ndarray) -> np.ndarray:
    """Return a float image in [0, 1] as uint8: clipped, rounded to the nearest level; NaN is shown black."""
    return np.round(np.clip(np.nan_to_num(image), 0.0, 1.0) * 255.0).astype(np.uint8)


def make_forward(model: nn.Module) -> Callable[[Any, jax.Array], jax.Array]:
    """Return the compiled function from (variables, uint8 batch (B, H, W, 3)) to float32 predictions, unclipped."""

    def forward(variables: Any, blur: jax.Array) -> jax.Array:
        return model.apply(variables, to_float(blur), train=False)

    return jax.jit(forward)


class Predictor:
    """A network on some devices, one compiled program for each shape of a batch; it knows its speed."""

    def __init__(self, model: nn.Module, batch_sharding: jax.sharding.Sharding):
        self._forward, self._sharding = make_forward(model), batch_sharding
        self._programs: dict[tuple[int, ...], Program] = {}
        self.restart()

    def restart(self) -> None:
        """Measure speed anew."""
        self._images, self._seconds, self._flops = 0, 0.0, 0.0

    def __call__(self, variables: Any, blur: np.ndarray) -> np.ndarray:
        """Return the predictions, float32, for a uint8 batch (B, H, W, 3)."""
        placed = jax.device_put(blur, self._sharding)
        if blur.shape not in self._programs:
            self._programs[blur.shape] = compile_program(self._forward, variables, placed, newer_products=False)
        program, start = self._programs[blur.shape], time.perf_counter()
        prediction = np.asarray(program.call(variables, placed))
        self._seconds += time.perf_counter() - start
        self._images += len(blur)
        self._flops += program.flops * self._sharding.num_devices
        return prediction

    @property
    def speed(self) -> dict[str, Any]:
        """Since the last restart: `images_per_s`, from memory to memory, compiling and metrics left out;
        `flops_per_image` as the compiler counts them, None if it does not; and `devices`.
        """
        devices = sorted(self._sharding.device_set, key=lambda device: device.id)
        return {
            "images_per_s": self._images / max(self._seconds, 1e-9),
            "flops_per_image": self._flops / self._images if self._flops else None,
            "devices": f"{len(devices)} x {devices[0].device_kind} ({devices[0].platform})",
        }
