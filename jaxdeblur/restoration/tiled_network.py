"""A network for images of any size, in bounded memory and by few compiled programs: whole, or in overlapping tiles.

Every image is padded as the network itself pads it: reflected at its lower and right borders to the network's own
multiple, and no further. Where the array of a program is larger than that, the network treats the image's borders as it
does those of an array (`models/borders.py`). So an image of at most WHOLE_PIXELS becomes what the network makes of it
alone, up to rounding; so does a larger one, as far as its tiles' overlap covers what the network sees around a pixel.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec, SingleDeviceSharding

from jaxdeblur.errors import InputError
from jaxdeblur.images.arrays import to_float
from jaxdeblur.models import needs_position, sees_whole_image
from jaxdeblur.models.pixels import TilePosition
from jaxdeblur.restoration.forward import make_forward, make_part_forward
from jaxdeblur.restoration.tiling import WHOLE_PIXELS, Cut, blending_weights, cut_image, require_tiles
from jaxdeblur.runtime.compilation import Program, compile_program


class TiledNetwork:
    """A network on one device, or on several that share batches, with its compiled programs.

    Attributes:
        flops: floating-point operations of all calls so far, as the compiler counts them.
        compile_seconds: what compiling took so far.
        pixels: that the network was applied to so far, those of padding and overlap included.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        tile: int | None,
        overlap: int,
        devices: jax.Device | jax.sharding.Mesh,
        own_shapes: int = 0,
    ):
        """Prepare a network; programs are compiled when they are needed.

        Args:
            model: the network.
            tile: see `cut_image`.
            overlap: see `cut_image`.
            devices: one, or a mesh whose first axis is that of batches.
            own_shapes: how many sizes of whole images, the first to come, get programs of exactly their size, which
                waste no pixel and take batches. Which sizes these are changes results by no more than rounding.

        Raises:
            InputError: the tiles that are asked for are none, or the network sees the whole image (code "tiles").
        """
        require_tiles(tile, overlap)
        if sees_whole_image(model):
            if tile:
                raise InputError(
                    f"--tile: {tile}, but this network weighs its channels by means over the whole image, so a tile "
                    "would become something else than it does in the image. Leave the option out, or give it 0.",
                    code="tiles",
                )
            tile = 0
        self._tile, self._overlap, self._multiple = tile, overlap, getattr(model, "multiple", 1)
        self._needs_position = needs_position(model)
        if isinstance(devices, jax.Device):
            self.num_devices = 1
            self._shared = self._replicated = SingleDeviceSharding(devices)
        else:
            self.num_devices = devices.size
            self._shared = NamedSharding(devices, PartitionSpec(devices.axis_names[0]))
            self._replicated = NamedSharding(devices, PartitionSpec())
        self._whole, self._part = make_forward(model), make_part_forward(model)
        self._programs: dict[tuple, Program] = {}
        self._num_own, self._own = own_shapes, set()
        self.flops, self.compile_seconds, self.pixels = 0.0, 0.0, 0

    @property
    def num_programs(self) -> int:
        """How many programs were compiled."""
        return len(self._programs)

    def put(self, variables: Any) -> Any:
        """Return the weights, whole on every device."""
        return jax.device_put(variables, self._replicated)

    def predict(self, variables: Any, images: np.ndarray, batch_size: int) -> np.ndarray:
        """Return the predictions for images of one size, (N, H, W, 3) float32, unclipped.

        Whole batches are computed at once, the images of a last one that is not full one by one: so there are two
        programs for a size. Batches are smaller where images have more than WHOLE_PIXELS together on one device.

        Args:
            variables: the network's weights on its devices, see `put`.
            images: (N, H, W, 3), uint8 or float32 in [0, 1].
            batch_size: images of a batch, on all devices together.
        """
        cut = self._cut(images)
        on_one_device = min(batch_size // self.num_devices, WHOLE_PIXELS // math.prod(cut.shape))
        size = max(on_one_device, 1) * self.num_devices if cut.shape in self._own else 1
        whole = len(images) // size * size
        starts = [*range(0, whole, size), *range(whole, len(images))]
        result = np.empty((*images.shape[:3], 3), np.float32)
        for start, end in zip(starts, [*starts[1:], len(images)], strict=True):
            for top, rows in self.rows(variables, images[start:end]):
                result[start:end, top : top + rows.shape[1]] = rows
        return result

    def rows(
        self, variables: Any, images: np.ndarray, progress: Callable[[float], None] = lambda share: None
    ) -> Iterator[tuple[int, np.ndarray]]:
        """Yield (first row, float32 rows (N, rows, W, 3), unclipped) of the predictions, from top to bottom.

        Args:
            variables: the network's weights on its devices, see `put`.
            images: (N, H, W, 3) of one of the types that `image_arrays` names.
            progress: is called from time to time with the share of the work that was done since the last call.
        """
        cut, (number, height, width) = self._cut(images), images.shape[:3]
        if len(cut.tops) == len(cut.lefts) == 1:
            yield 0, np.asarray(self._tile_at(variables, images, cut, 0, 0))[:, :height, :width]
            progress(1)
            return
        weights = blending_weights(cut.padded[0], cut.shape[0], cut.tops, cut.overlap)
        open_rows = np.zeros((number, 0, width, 3), np.float32)  # from the last tile row's top on, not yet complete
        for i, (top, weight) in enumerate(zip(cut.tops, weights, strict=True)):
            band = self._band(variables, images, cut, top) * weight[:, None, None]
            progress(1 / len(cut.tops))
            band[:, : open_rows.shape[1]] += open_rows
            end = cut.tops[i + 1] - top if i + 1 < len(cut.tops) else cut.shape[0]
            if top < height:
                yield top, band[:, :end][:, : height - top]
            open_rows = band[:, end:]

    def _cut(self, images: np.ndarray) -> Cut:
        """Return how images are cut; a size that gets a program of its own is noted."""
        padded = self._padded(images)
        if len(self._own) < self._num_own and not self._tile and math.prod(padded) <= WHOLE_PIXELS:
            self._own.add(padded)
        if padded in self._own:
            return Cut(padded, padded, (0,), (0,), self._overlap)
        return cut_image(*images.shape[1:3], tile=self._tile, overlap=self._overlap)

    def _padded(self, images: np.ndarray) -> tuple[int, int]:
        """Return the sides that the network itself pads images to."""
        return tuple(-(-side // self._multiple) * self._multiple for side in images.shape[1:3])

    def _band(self, variables: Any, images: np.ndarray, cut: Cut, top: int) -> np.ndarray:
        """Return a row of tiles, blended with each other, (N, tile height, W, 3) float32."""
        number, _, width = images.shape[:3]
        band = np.zeros((number, cut.shape[0], cut.padded[1], 3), np.float32)
        weights = blending_weights(cut.padded[1], cut.shape[1], cut.lefts, cut.overlap)
        waiting: tuple[int, np.ndarray, jax.Array] | None = None
        for left, weight in zip(cut.lefts, weights, strict=True):
            restored = self._tile_at(variables, images, cut, top, left)
            if waiting:  # the tile before is blended while the device works on this one
                _add(band, *waiting)
            waiting = (left, weight, restored)
        _add(band, *waiting)
        return band[:, :, :width]

    def _tile_at(self, variables: Any, images: np.ndarray, cut: Cut, top: int, left: int) -> jax.Array:
        """Return what the network makes of one tile of each image; the device may still be at it."""
        padded = self._padded(images)
        tiles = _cut_out(images, top, left, cut.shape, padded)
        # Of the common type a quarter of the bytes goes to the device.
        tiles = tiles if tiles.dtype == np.uint8 else to_float(tiles)
        shared = len(tiles) % self.num_devices == 0
        arguments = [variables, jax.device_put(tiles, self._shared if shared else self._replicated)]
        # Where nothing lies beyond the image and no part needs to know its position, the plain network will do.
        alone = cut.padded == padded and (not self._needs_position or cut.shape == padded)
        if not alone:
            arguments.append(TilePosition(*(np.int32(number) for number in (top, left, *padded))))
        key = (alone, tiles.shape, tiles.dtype)
        if key not in self._programs:
            forward = self._whole if alone else self._part
            self._programs[key] = compile_program(forward, *arguments, use_ynnpack_matmul=False)
            self.compile_seconds += self._programs[key].compile_seconds
        program = self._programs[key]
        self.flops += program.flops * (self.num_devices if shared else 1)
        self.pixels += math.prod(tiles.shape[:3])
        return program.call(*arguments)


def _add(band: np.ndarray, left: int, weight: np.ndarray, restored: jax.Array) -> None:
    band[:, :, left : left + len(weight)] += np.asarray(restored) * weight[:, None]


def _cut_out(images: np.ndarray, top: int, left: int, shape: tuple[int, int], padded: tuple[int, int]) -> np.ndarray:
    """Return a tile of each image, which is reflected at its lower and right borders up to `padded`, then zero."""
    if shape == images.shape[1:3]:
        return images
    rows, columns = (
        _mirror(np.arange(start, min(start + side, end)), length)
        for start, side, end, length in zip((top, left), shape, padded, images.shape[1:3], strict=True)
    )
    tiles = images[:, rows[:, None], columns]
    missing = [(0, 0), *((0, side - found) for side, found in zip(shape, tiles.shape[1:3], strict=True)), (0, 0)]
    return np.pad(tiles, missing)


def _mirror(places: np.ndarray, length: int) -> np.ndarray:
    """Return the places in an axis that reflection without repeating its ends leads to."""
    period = max(2 * (length - 1), 1)
    places = places % period
    return np.where(places < length, places, period - places)
