"""Restores images of any size with a trained network, in bounded memory.

Images are RGB, (H, W, 3) or a batch (N, H, W, 3), of type uint8, uint16, or float in [0, 1]. Results have the same
shape and type; integers are rounded.
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
from jaxdeblur.images.metadata import pillow_info
from jaxdeblur.images.photo import photo_from_image
from jaxdeblur.images.save import to_pillow
from jaxdeblur.restoration.tiled_network import TiledNetwork
from jaxdeblur.restoration.tiling import OVERLAP
from jaxdeblur.weights.load import load_network
from jaxdeblur.weights.pretrained.catalogue import resolve_weights
from jaxdeblur.weights.tensors import fingerprint


class Restorer:
    """A trained network on one device, for images of any size.

    Images of at most `tiling.WHOLE_PIXELS` are restored whole. Larger ones are restored in overlapping tiles that are
    blended; only one row of tiles is in memory at a time. Padding equals the network's own, and few programs are
    compiled whatever the sizes (`tiled_network.py`). Networks that use means over the whole image
    (`models.sees_whole_image`) are never tiled.
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
            tile: size of tiles in pixels, a multiple of 32; 0 never tiles, None tiles large images.
            overlap: of neighbouring tiles in pixels.
            self_ensemble: average over the eight flips and rotations (Timofte et al. 2016, CVPR), at eight times the
                work.
            device: None for the first.

        Raises:
            InputError: the tiles are invalid, or the network needs whole images ("tiles").
        """
        self._self_ensemble, self._device = self_ensemble, device or jax.local_devices()[0]
        self._network = TiledNetwork(model, tile=tile, overlap=overlap, devices=self._device)
        self._variables = self._network.put(variables)

    def __call__(self, image: np.ndarray, progress: Callable[[float], None] = lambda fraction: None) -> np.ndarray:
        """Return the restored image, or batch of images.

        Args:
            image: see the module's docstring.
            progress: called from time to time with the fraction of the work done since the previous call.

        Raises:
            InputError: the shape, type or range of values is not supported ("image-shape", "image-type",
                "image-range").
        """
        if hasattr(image, "__array__"):  # a JAX array, for instance
            image = np.asarray(image)
        check_image(image)
        images = image if image.ndim == 4 else image[None]
        if self._self_ensemble:
            result = self._restore_ensemble(images, progress)
        else:
            result = np.empty_like(images, order="C")
            for top, rows in self._network.rows(self._variables, images, progress):
                result[:, top : top + rows.shape[1]] = from_float(rows, image.dtype)
        return result if image.ndim == 4 else result[0]

    @property
    def num_programs(self) -> int:
        """Number of compiled programs."""
        return self._network.num_programs

    def _restore_ensemble(self, images: np.ndarray, progress: Callable[[float], None]) -> np.ndarray:
        """Return the mean of the results for the eight flips and rotations, each transformed back."""
        total = np.zeros(images.shape, np.float32)
        for turns in range(4):
            for mirror in (False, True):
                # A view: adding to it adds to `total`.
                total_view, transformed = (np.rot90(array, turns, axes=(1, 2)) for array in (total, images))
                if mirror:
                    total_view, transformed = total_view[:, :, ::-1], transformed[:, :, ::-1]
                rows_of = self._network.rows(self._variables, transformed, lambda fraction: progress(fraction / 8))
                for top, rows in rows_of:
                    total_view[:, top : top + rows.shape[1]] += rows
        return from_float(total / 8.0, images.dtype)


def load_restorer(weights: str | Path | None = None, *, dtype: str = "float32", **options: Any) -> Restorer:
    """Return a `Restorer` for trained weights.

    Args:
        weights: a shipped network's name, a run's folder, a `.safetensors` or a PyTorch file of a known network; None
            for the default shipped network.
        dtype: of the network's computations.
        **options: keyword arguments of `Restorer`.

    Raises:
        InputError: the weights are missing, corrupt, or not those of an image-restoring network; or see `Restorer`.
    """
    network = load_network(resolve_weights(weights), dtype=dtype)
    return Restorer(network.model, network.variables, **options)


def restore(image: np.ndarray | Image.Image, weights: str | Path | None = None) -> np.ndarray | Image.Image:
    """Return a restored image of the same size and type: an array (see the module's docstring) or a Pillow image.

    Pillow images are treated like files of the command `restore` (`images/photo.py`): rotated upright; grey stays grey,
    alpha stays unchanged, and colour profile, EXIF and resolution are kept in `info`.

    Args:
        image: the blurred image.
        weights: a shipped network's name, a run's folder (its best checkpoint so far) or a `.safetensors`; None for the
            default shipped network. The last network used stays in memory and is reloaded when its weights change.

    Raises:
        InputError: the weights are missing or corrupt, or the image is not supported: a Pillow image because of its
            mode ("image-kind"), an array as in `Restorer.__call__`.
    """
    restorer = _cached_restorer(resolve_weights(weights).absolute())
    if not isinstance(image, Image.Image):
        return restorer(image)
    photo = photo_from_image(image)
    restored = dataclasses.replace(photo, pixels=restorer(photo.pixels))
    result = to_pillow(restored)
    result.info.update(pillow_info(restored.metadata))
    return result


FileStates = tuple[tuple[str | int, ...], ...]


@dataclasses.dataclass(frozen=True)
class _CachedRestorer:
    """The restorer that `restore` used last.

    Attributes:
        path: of its weights.
        files: state of the files when they were loaded.
        fingerprint: of the weights.
        restorer: the restorer.
    """

    path: Path
    files: FileStates
    fingerprint: str
    restorer: Restorer


_last: _CachedRestorer | None = None


def _cached_restorer(path: Path) -> Restorer:
    """Return the restorer of these weights; the last one is reused until they change."""
    global _last
    files = _file_states(path)
    if _last and (_last.path, _last.files) == (path, files):
        return _last.restorer
    network = load_network(path, dtype="float32")
    weights = fingerprint(network.variables)
    # A run in progress writes new checkpoints, but its best one may be the same.
    is_same = _last is not None and (_last.path, _last.fingerprint) == (path, weights)
    restorer = _last.restorer if _last and is_same else Restorer(network.model, network.variables)
    _last = _CachedRestorer(path, files, weights, restorer)
    return restorer


def _file_states(path: Path) -> FileStates:
    """Return what changes whenever the weights in a file, or the checkpoints of a run, may have changed."""
    finished_checkpoints = sorted(file for file in path.glob("checkpoints/*") if "tmp" not in file.name)
    states: list[tuple[str | int, ...]] = []
    for file in (path, path / "config.json", *finished_checkpoints):
        with suppress(OSError):  # missing files are reported when they are loaded
            status = file.stat()
            is_run = file == path and file.is_dir()  # whose modification time does not reflect its checkpoints
            states.append((str(file), *(() if is_run else (status.st_ino, status.st_size, status.st_mtime_ns))))
    return tuple(states)
