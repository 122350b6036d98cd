"""Restore images of any size with a trained network, in bounded memory.

Images are (H, W, 3) RGB, or (N, H, W, 3), several at once: uint8, uint16, or float in [0, 1]; the result has the same
shape and type, integers rounded.
"""

import dataclasses
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from PIL import Image

from jaxdeblur.images.arrays import check_image, from_float
from jaxdeblur.images.metadata import info_of
from jaxdeblur.images.photo import photo_from_image
from jaxdeblur.images.save import to_image
from jaxdeblur.restoration.tiled_network import TiledNetwork
from jaxdeblur.restoration.tiling import OVERLAP
from jaxdeblur.weights.load import load_network
from jaxdeblur.weights.pretrained.catalogue import resolve_weights
from jaxdeblur.weights.tensors import fingerprint


class Restorer:
    """A trained network on one device, for images of any size.

    An image of at most `tiles.WHOLE_PIXELS` is restored whole; a larger one is cut into overlapping tiles that are
    blended, and only a row of tiles is in memory at once. Images are padded as the network pads them, and few programs
    are compiled however many sizes there are (`tiled_network.py`). A network that weighs what it sees by means over the
    whole image (`sees_whole_image`) is given every image whole.
    """

    def __init__(
        self,
        model: nn.Module,
        variables: Any,
        *,
        tile: int | None = None,
        overlap: int = OVERLAP,
        self_ensemble: bool = False,
        device: jax.Device | None = None,
    ):
        """Put a network on a device.

        Args:
            model: the network.
            variables: its weights.
            tile: side of tiles in pixels, a multiple of 32; 0 never cuts an image; None decides by its size.
            overlap: of neighbouring tiles in pixels.
            self_ensemble: restore all eight flips and turns and return their mean (Timofte et al. 2016, CVPR): eight
                times the work.
            device: the network's; None for the first.

        Raises:
            InputError: the tiles that are asked for are none, or the network sees the whole image (code "tiles").
        """
        self._self_ensemble, self._device = self_ensemble, device or jax.local_devices()[0]
        self._network = TiledNetwork(model, tile=tile, overlap=overlap, devices=self._device)
        self._variables = self._network.put(variables)

    def __call__(self, image: np.ndarray, progress: Callable[[float], None] = lambda share: None) -> np.ndarray:
        """Return the image restored, or several images of one size.

        Args:
            image: of a shape and a type that the module names.
            progress: is called from time to time with the share of the work that was done since the last call.

        Raises:
            InputError: its shape, type or range of values is none of those that the module names (code "image-shape",
                "image-type" or "image-range").
        """
        if hasattr(image, "__array__"):  # JAX's arrays, for instance
            image = np.asarray(image)
        check_image(image)
        images = image if image.ndim == 4 else image[None]
        if self._self_ensemble:
            result = self._restore_turned(images, progress)
        else:
            result = np.empty_like(images, order="C")
            for top, rows in self._network.rows(self._variables, images, progress):
                result[:, top : top + rows.shape[1]] = from_float(rows, image.dtype)
        return result if image.ndim == 4 else result[0]

    @property
    def num_programs(self) -> int:
        """How many programs were compiled."""
        return self._network.num_programs

    def _restore_turned(self, images: np.ndarray, progress: Callable[[float], None]) -> np.ndarray:
        """Return the mean over the eight flips and turns of the images, each turned back."""
        total = np.zeros(images.shape, np.float32)
        for turns in range(4):
            for mirror in (False, True):
                # Of `total` a view: what is added to it is added to the total.
                back, turned = (np.rot90(array, turns, axes=(1, 2)) for array in (total, images))
                if mirror:
                    back, turned = back[:, :, ::-1], turned[:, :, ::-1]
                for top, rows in self._network.rows(self._variables, turned, lambda share: progress(share / 8)):
                    back[:, top : top + rows.shape[1]] += rows
        return from_float(total / 8.0, images.dtype)


def load_model(weights: str | Path | None = None, *, dtype: str = "float32") -> tuple[nn.Module, Any]:
    """Return a trained network and its weights, as `Restorer` takes them.

    Args:
        weights: a shipped network's name, a run's folder or a `.safetensors`; None for the default shipped network.
        dtype: what the network computes in.

    Raises:
        InputError: there are no such weights, they are damaged, or no network's that restores images.
    """
    network = load_network(resolve_weights(weights), dtype=dtype)
    return network.model, network.variables


def load_restorer(weights: str | Path | None = None, *, dtype: str = "float32", **options: Any) -> Restorer:
    """Return a `Restorer` for weights as `load_model` takes them; `options` are the restorer's own.

    Raises:
        InputError: see `load_model`.
    """
    model, variables = load_model(weights, dtype=dtype)
    return Restorer(model, variables, **options)


@dataclasses.dataclass(frozen=True)
class _Remembered:
    """The restorer that `restore` used last, and what its weights are told by."""

    path: Path
    stamp: tuple
    fingerprint: str
    restorer: Restorer


_last: _Remembered | None = None


def _restorer_of(path: Path) -> Restorer:
    """Return the restorer of these weights; the last one stays on its device until the weights change."""
    global _last
    stamp = _stamp_of(path)
    if not _last or (_last.path, _last.stamp) != (path, stamp):
        model, variables = load_model(path)
        found = fingerprint(variables)
        # A run that goes on has new checkpoints, but the best one may be the same.
        known = _last and (_last.path, _last.fingerprint) == (path, found)
        restorer = _last.restorer if known else Restorer(model, variables)
        _last = _Remembered(path, stamp, found, restorer)
    return _last.restorer


def _stamp_of(path: Path) -> tuple:
    """Return what changes whenever the weights of a file, or the checkpoints of a run, may have changed."""
    # Without those that are being written.
    checkpoints = sorted(file for file in path.glob("checkpoints/*") if "tmp" not in file.name)
    stamps = []
    for file in (path, path / "config.json", *checkpoints):
        with suppress(OSError):  # what is missing is reported when it is loaded
            status = file.stat()
            is_run = file == path and file.is_dir()  # its own time says nothing of its checkpoints
            stamps.append((str(file), *(() if is_run else (status.st_ino, status.st_size, status.st_mtime_ns))))
    return tuple(stamps)


def restore(image: np.ndarray | Image.Image, weights: str | Path | None = None) -> np.ndarray | Image.Image:
    """Return an image restored, at its own size, of the same type: an array as `Restorer` takes it, or Pillow's image.

    Pillow's are treated as the command treats files (`photos.py`): upright, grey stays grey, alpha stays as it is, and
    colour profile, EXIF and resolution are kept in `info`.

    Args:
        image: the blurred photograph.
        weights: a shipped network's name, a run's folder (its best checkpoint so far) or a `.safetensors`; None for the
            default shipped network. The last one is kept in memory until its weights change.

    Raises:
        InputError: there are no such weights, they are damaged, or the image is of a kind that is refused: Pillow's by
            its mode (code "image-kind"), an array as `Restorer` says.
    """
    path = resolve_weights(weights).absolute()
    restorer = _restorer_of(path)
    if not isinstance(image, Image.Image):
        return restorer(image)
    photo = photo_from_image(image)
    restored = dataclasses.replace(photo, pixels=restorer(photo.pixels))
    result = to_image(restored)
    result.info |= info_of(restored.metadata)
    return result
