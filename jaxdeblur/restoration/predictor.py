"""Predictions for evaluation: by the same code that restores photographs, on all devices of a process, timed."""

import time
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from jaxdeblur.restoration.tiled_network import TiledNetwork
from jaxdeblur.restoration.tiling import OVERLAP

# Most splits have one size or two; each takes two programs, see `TiledNetwork.predict`.
OWN_SHAPES = 4


class Predictor:
    """A network on the devices of a mesh, and its speed."""

    def __init__(self, model: nn.Module, mesh: jax.sharding.Mesh, *, batch_size: int):
        """Prepare a network.

        Args:
            model: the network.
            mesh: devices of this process.
            batch_size: images of a batch on all of them.
        """
        self._network = TiledNetwork(model, tile=None, overlap=OVERLAP, devices=mesh, own_shapes=OWN_SHAPES)
        self._mesh, self._batch_size = mesh, batch_size
        self.restart()

    def restart(self) -> None:
        """Measure speed anew."""
        self._images, self._seconds, self._flops = 0, 0.0, 0.0

    def __call__(self, variables: Any, images: np.ndarray) -> np.ndarray:
        """Return the predictions, float32, unclipped, for uint8 images of one size (N, H, W, 3).

        Args:
            variables: the network's weights, whole on every device of the mesh.
            images: as many as there are.
        """
        start, compiled, flops = time.perf_counter(), self._network.compile_seconds, self._network.flops
        predictions = self._network.predict(variables, images, self._batch_size)
        self._seconds += time.perf_counter() - start - (self._network.compile_seconds - compiled)
        self._flops += self._network.flops - flops
        self._images += len(images)
        return predictions

    @property
    def speed(self) -> dict[str, Any]:
        """Since the last restart: `images_per_s`, from memory to memory, compiling and metrics left out;
        `flops_per_image` as the compiler counts them, those of padding and of tiles' overlap included, None if it does
        not count; and `devices`.
        """
        devices = sorted(self._mesh.devices.flat, key=lambda device: device.id)
        return {
            "images_per_s": self._images / max(self._seconds, 1e-9),
            "flops_per_image": self._flops / self._images if self._flops else None,
            "devices": f"{len(devices)} x {devices[0].device_kind} ({devices[0].platform})",
        }
