"""Predictions for evaluation: on all devices of a process, by the code that restores photos, with throughput."""

import time
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from jaxdeblur.restoration.tiled_network import TiledNetwork
from jaxdeblur.restoration.tiling import OVERLAP

# Most splits have one or two image sizes; each takes two programs, see `TiledNetwork.predict`.
MAX_EXACT_SIZES = 4


class Predictor:
    """A network on the devices of a mesh, with its throughput."""

    def __init__(self, model: nn.Module, mesh: jax.sharding.Mesh, *, batch_size: int):
        """Prepare a network.

        Args:
            model: the network.
            mesh: devices of this process.
            batch_size: images per batch, over all devices.
        """
        self._network = TiledNetwork(model, tile=None, overlap=OVERLAP, devices=mesh, max_exact_sizes=MAX_EXACT_SIZES)
        self._mesh, self._batch_size = mesh, batch_size
        self.restart()

    def restart(self) -> None:
        """Reset the throughput measurement."""
        self._images, self._seconds, self._flops = 0, 0.0, 0.0

    def __call__(self, variables: Any, images: np.ndarray) -> np.ndarray:
        """Return predictions, float32 (N, H, W, 3), unclipped.

        Args:
            variables: the network's, replicated on the devices of the mesh.
            images: uint8 (N, H, W, 3); any N.
        """
        start, compile_seconds, flops = time.perf_counter(), self._network.compile_seconds, self._network.flops
        predictions = self._network.predict(variables, images, self._batch_size)
        self._seconds += time.perf_counter() - start - (self._network.compile_seconds - compile_seconds)
        self._flops += self._network.flops - flops
        self._images += len(images)
        return predictions

    @property
    def speed(self) -> dict[str, Any]:
        """Measurements since the last restart.

        `images_per_s`: throughput from host memory to host memory, without compilation and metrics;
        `flops_per_image`: as counted by the compiler, including padding and overlaps; None if it does not count;
        `devices`: their number and kind.
        """
        devices = sorted(self._mesh.devices.flat, key=lambda device: device.id)
        return {
            "images_per_s": self._images / max(self._seconds, 1e-9),
            "flops_per_image": self._flops / self._images if self._flops else None,
            "devices": f"{len(devices)} x {devices[0].device_kind} ({devices[0].platform})",
        }
