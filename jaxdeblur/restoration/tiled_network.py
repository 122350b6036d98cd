"""A network applied to images of any size, whole or in overlapping tiles, in bounded memory and with few programs.

Every image is padded as the network itself pads it: by reflection or zeros at its bottom and right borders, to the
network's multiple. If a program's array is larger, the network treats the image's borders like those of its input array
(`models/borders.py`). So an image of at most WHOLE_PIXELS gives the network's own output up to rounding; so does a
larger one if its tiles' overlap covers the network's receptive field. Networks with local means (TLC) reach further;
their tiles approximate the whole image (docs/inference.md).

Images are RGB, (N, H, W, 3), of a type that `images/arrays.py` lists. Predictions are float32, unclipped.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec, Sharding, SingleDeviceSharding

from jaxdeblur.errors import InputError
from jaxdeblur.images.arrays import to_float
from jaxdeblur.models import min_tile_overlap, needs_position, pads_with_zeros, sees_whole_image
from jaxdeblur.models.pixels import TilePosition
from jaxdeblur.restoration.forward import make_forward, make_tile_forward
from jaxdeblur.restoration.tiling import WHOLE_PIXELS, TileGrid, blending_weights, plan_tiles, require_tiles
from jaxdeblur.runtime.compilation import Program, compile_program

Size = tuple[int, int]  # height and width in pixels


class TiledNetwork:
    """A network with its compiled programs, on one device or on several that share batches.

    Attributes:
        num_devices: number of devices.
        flops: floating-point operations of all calls so far, as counted by the compiler.
        compile_seconds: spent on compilation so far.
        pixels: processed by the network so far, including padding and overlaps.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        tile: int | None,
        overlap: int,
        devices: jax.Device | jax.sharding.Mesh,
        max_exact_sizes: int = 0,
    ):
        """Prepare a network; programs are compiled on demand.

        Args:
            model: the network.
            tile: see `plan_tiles`.
            overlap: see `plan_tiles`; without `tile`, at least what the network needs.
            devices: one, or a mesh whose first axis is the batch axis.
            max_exact_sizes: number of image sizes, the first ones, that get programs of exactly their size, which waste
                no pixels and take batches. This changes results only by rounding.

        Raises:
            InputError: the tiles are invalid, or the network needs whole images ("tiles").
        """
        require_tiles(tile, overlap)
        if sees_whole_image(model):
            if tile:
                raise InputError(
                    f"--tile: {tile}, but this network weights its channels by means over the whole image, which "
                    "differ from a tile's. Omit the option, or set it to 0.",
                    code="tiles",
                )
            tile = 0
        needed = min_tile_overlap(model)
        if tile and overlap < needed:
            raise InputError(
                f"--overlap: {overlap}, expected at least {needed}: this network weights its channels by means over "
                f"boxes of {needed} pixels.",
                code="tiles",
            )
        overlap = max(overlap, needed)
        self._pads_with_zeros = pads_with_zeros(model)
        self._tile, self._overlap, self._multiple = tile, overlap, getattr(model, "multiple", 1)
        self._needs_position = needs_position(model)
        self._batch_sharding: Sharding
        self._replicated: Sharding
        if isinstance(devices, jax.Device):
            self.num_devices = 1
            self._batch_sharding = self._replicated = SingleDeviceSharding(devices)
        else:
            self.num_devices = devices.size
            self._batch_sharding = NamedSharding(devices, PartitionSpec(devices.axis_names[0]))
            self._replicated = NamedSharding(devices, PartitionSpec())
        self._forward, self._tile_forward = make_forward(model), make_tile_forward(model)
        self._programs: dict[tuple[bool, tuple[int, ...], np.dtype], Program] = {}
        self._max_exact_sizes = max_exact_sizes
        self._exact_sizes: set[Size] = set()
        self.flops, self.compile_seconds, self.pixels = 0.0, 0.0, 0

    @property
    def num_programs(self) -> int:
        """Number of compiled programs."""
        return len(self._programs)

    def put(self, variables: Any) -> Any:
        """Return the variables replicated on every device."""
        return jax.device_put(variables, self._replicated)

    def predict(self, variables: Any, images: np.ndarray, batch_size: int) -> np.ndarray:
        """Return the predictions for images of one size, float32 (N, H, W, 3).

        Full batches are computed at once, the remaining images one by one, so each size takes two programs. Batches are
        smaller if their images exceed WHOLE_PIXELS on one device.

        Args:
            variables: the network's, on its devices (see `put`).
            images: (N, H, W, 3), uint8 or float32 in [0, 1].
            batch_size: images per batch, over all devices.
        """
        grid = self._plan_tiles(images)
        per_device = min(batch_size // self.num_devices, WHOLE_PIXELS // math.prod(grid.shape))
        batch_size = max(per_device, 1) * self.num_devices if grid.shape in self._exact_sizes else 1
        in_batches = len(images) // batch_size * batch_size
        starts = [*range(0, in_batches, batch_size), *range(in_batches, len(images))]
        predictions = np.empty((*images.shape[:3], 3), np.float32)
        for start, end in zip(starts, [*starts[1:], len(images)], strict=True):
            for top, rows in self.rows(variables, images[start:end]):
                predictions[start:end, top : top + rows.shape[1]] = rows
        return predictions

    def rows(
        self, variables: Any, images: np.ndarray, progress: Callable[[float], None] = lambda fraction: None
    ) -> Iterator[tuple[int, np.ndarray]]:
        """Yield (first row, predictions (N, rows, W, 3)) from top to bottom.

        Args:
            variables: the network's, on its devices (see `put`).
            images: (N, H, W, 3).
            progress: called from time to time with the fraction of the work done since the previous call.
        """
        grid, (number, height, width) = self._plan_tiles(images), images.shape[:3]
        if len(grid.tops) == len(grid.lefts) == 1:
            yield 0, np.asarray(self._predict_tile(variables, images, grid, 0, 0))[:, :height, :width]
            progress(1)
            return
        weights = blending_weights(grid.padded[0], grid.shape[0], grid.tops, grid.overlap)
        incomplete = np.zeros((number, 0, width, 3), np.float32)  # rows that the next band overlaps
        for i, (top, weight) in enumerate(zip(grid.tops, weights, strict=True)):
            band = self._predict_band(variables, images, grid, top) * weight[:, None, None]
            progress(1 / len(grid.tops))
            band[:, : incomplete.shape[1]] += incomplete
            end = grid.tops[i + 1] - top if i + 1 < len(grid.tops) else grid.shape[0]
            if top < height:
                yield top, band[:, :end][:, : height - top]
            incomplete = band[:, end:]

    def _plan_tiles(self, images: np.ndarray) -> TileGrid:
        """Return the tiles of images; registers a size that gets its own programs."""
        padded = self._padded_size(images)
        if len(self._exact_sizes) < self._max_exact_sizes and not self._tile and math.prod(padded) <= WHOLE_PIXELS:
            self._exact_sizes.add(padded)
        if padded in self._exact_sizes:
            return TileGrid(padded, padded, (0,), (0,), self._overlap)
        return plan_tiles(*images.shape[1:3], tile=self._tile, overlap=self._overlap)

    def _padded_size(self, images: np.ndarray) -> Size:
        """Return the size that the network itself pads images to."""
        height, width = (-(-side // self._multiple) * self._multiple for side in images.shape[1:3])
        return height, width

    def _predict_band(self, variables: Any, images: np.ndarray, grid: TileGrid, top: int) -> np.ndarray:
        """Return a row of tiles blended with each other, float32 (N, tile height, W, 3)."""
        number, _, width = images.shape[:3]
        band = np.zeros((number, grid.shape[0], grid.padded[1], 3), np.float32)
        weights = blending_weights(grid.padded[1], grid.shape[1], grid.lefts, grid.overlap)
        # Each tile is added while the device works on the next one.
        previous: tuple[int, np.ndarray, jax.Array] | None = None
        for left, weight in zip(grid.lefts, weights, strict=True):
            prediction = self._predict_tile(variables, images, grid, top, left)
            if previous:
                _add_tile(band, *previous)
            previous = (left, weight, prediction)
        if previous:
            _add_tile(band, *previous)
        return band[:, :, :width]

    def _predict_tile(self, variables: Any, images: np.ndarray, grid: TileGrid, top: int, left: int) -> jax.Array:
        """Return the prediction for one tile of each image; asynchronously dispatched."""
        padded = self._padded_size(images)
        tiles = _extract_tiles(images, top, left, grid.shape, padded, zeros=self._pads_with_zeros)
        # uint8 is converted on the device, which transfers a quarter of the bytes.
        tiles = tiles if tiles.dtype == np.uint8 else to_float(tiles)
        is_sharded = len(tiles) % self.num_devices == 0
        arguments = [variables, jax.device_put(tiles, self._batch_sharding if is_sharded else self._replicated)]
        # If the array contains nothing beyond the image and positions do not matter, the plain network will do.
        is_plain = grid.padded == padded and (not self._needs_position or grid.shape == padded)
        if not is_plain:
            numbers: Any = map(np.int32, (top, left, *padded))  # Python's integers would be weakly typed
            arguments.append(TilePosition(*numbers))
        key = (is_plain, tiles.shape, tiles.dtype)
        if key not in self._programs:
            forward = self._forward if is_plain else self._tile_forward
            self._programs[key] = compile_program(forward, *arguments, use_ynnpack_matmul=False)
            self.compile_seconds += self._programs[key].compile_seconds
        program = self._programs[key]
        self.flops += program.flops * (self.num_devices if is_sharded else 1)
        self.pixels += math.prod(tiles.shape[:3])
        return program.call(*arguments)


def _add_tile(band: np.ndarray, left: int, weight: np.ndarray, prediction: jax.Array) -> None:
    band[:, :, left : left + len(weight)] += np.asarray(prediction) * weight[:, None]


def _extract_tiles(images: np.ndarray, top: int, left: int, shape: Size, padded: Size, *, zeros: bool) -> np.ndarray:
    """Return a tile of each image, padded at the bottom and right by reflection up to `padded`, then by zeros.

    With `zeros`, by zeros only.
    """
    if shape == images.shape[1:3]:
        return images
    rows, columns = (
        _reflect(np.arange(start, min(start + side, length if zeros else end)), length)
        for start, side, end, length in zip((top, left), shape, padded, images.shape[1:3], strict=True)
    )
    tiles = images[:, rows[:, None], columns]
    return np.pad(tiles, ((0, 0), (0, shape[0] - tiles.shape[1]), (0, shape[1] - tiles.shape[2]), (0, 0)))


def _reflect(indices: np.ndarray, length: int) -> np.ndarray:
    """Return the indices into an axis that reflection padding, without repeating the edge, maps indices to."""
    period = max(2 * (length - 1), 1)
    indices = indices % period
    return np.where(indices < length, indices, period - indices)
