"""PyTorch's checkpoint files as NumPy arrays, without running anything that a file may carry.

Zip files and the format of 2017 to 2020 go through `torch.load(weights_only=True)`. The tar format before those, in
which torchvision's resnet50-19c8e357.pth still comes, is refused by that, so it is read here, by an unpickler that
knows storages, tensors and ordered dictionaries and nothing else.
"""

import pickle
import re
import struct
import tarfile
from collections import OrderedDict
from pathlib import Path
from typing import IO, Any

import numpy as np

from jaxdeblur.errors import InputError
from jaxdeblur.runtime.optional_packages import require

# PyTorch's storage classes by name, and what they hold.
STORAGES = {
    "DoubleStorage": np.float64,
    "FloatStorage": np.float32,
    "HalfStorage": np.float16,
    "LongStorage": np.int64,
    "IntStorage": np.int32,
    "ByteStorage": np.uint8,
}
# What training code keeps next to weights: numbers and random states of NumPy, options, paths. Every one of these names
# stands for `Inert` when a file is read, so nothing of theirs is called and what they held is lost.
IGNORED = (
    *(f"numpy.{core}.multiarray.{name}" for core in ("core", "_core") for name in ("scalar", "_reconstruct")),
    "numpy.ndarray",
    "numpy.dtype",
    "argparse.Namespace",
    *(f"{module}.{name}" for module in ("pathlib", "pathlib._local") for name in ("PosixPath", "WindowsPath")),
)


class Inert:
    """Takes any arguments and any state, and keeps none of it."""

    def __new__(cls, *_: Any) -> "Inert":
        """Return an empty object."""
        return super().__new__(cls)

    def __setstate__(self, state: Any) -> None:
        """Do nothing."""


def read_torch_file(path: Path) -> dict[str, Any]:
    """Return what a `.pth` holds, tensors as arrays; half precision and bfloat16 become float32.

    Raises:
        InputError: no such file, damaged, or carrying more than numbers and names; or PyTorch is missing.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file.", code="no-such-file")
    try:
        loaded = _read_tar(path) if tarfile.is_tarfile(path) else _read_with_torch(path)
    except InputError:
        raise
    except Exception as error:  # every damaged or malicious file fails in its own way
        if name := re.search(r"GLOBAL (\S+)|the file names (\S+),", str(error)):
            raise InputError(
                f"{path}: names {name[1] or name[2]}, which is no part of a state dict; files that carry code are "
                "never loaded. Save model.state_dict() alone.",
                code="checkpoint-unsafe",
            ) from error
        words = str(error).split("\n")[0]
        raise InputError(
            f"{path}: cannot be read as a PyTorch checkpoint ({type(error).__name__}: {words}). It is damaged, or "
            "holds more than tensors; files that carry code are never loaded.",
            code="checkpoint-damaged",
        ) from error
    if not isinstance(loaded, dict):
        raise InputError(
            f"{path}: holds a {type(loaded).__name__}, expected a state dict. Save model.state_dict().",
            code="checkpoint-without-tensors",
        )
    return loaded


def _read_with_torch(path: Path) -> Any:
    torch = require("torch", f"{path}: reading PyTorch's own format, which .safetensors avoids,")

    def to_numpy(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: to_numpy(item) for key, item in value.items()}
        if not isinstance(value, torch.Tensor):
            return value
        return (value.float() if value.is_floating_point() else value).detach().contiguous().numpy()

    with torch.serialization.safe_globals([(Inert, name) for name in IGNORED]):
        return to_numpy(torch.load(path, map_location="cpu", weights_only=True))


class _TarUnpickler(pickle.Unpickler):
    """Resolves the names of storages, tensors, OrderedDict and `IGNORED`; any other name is refused."""

    def __init__(self, file: IO[bytes], tensors: dict[int, np.ndarray] | None = None):
        super().__init__(file, encoding="latin1")
        self._tensors = tensors or {}

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if module in ("torch", "torch.cuda") and name in STORAGES:
            return STORAGES[name]
        if module in ("torch", "torch.cuda") and name.endswith("Tensor"):
            return name
        if (module, name) == ("torch.nn.parameter", "Parameter"):
            return name
        if f"{module}.{name}" in (*IGNORED, "_codecs.encode"):  # the last wraps the bytes of NumPy's numbers
            return Inert
        raise pickle.UnpicklingError(f"the file names {module}.{name}, which is no part of a state dict")

    def persistent_load(self, identity: Any) -> Any:
        return self._tensors[int(identity)]


def _read_tar(path: Path) -> Any:
    """Read storages, then the tensors that view them, then the dictionary that names the tensors."""
    with tarfile.open(path, "r:") as tar:
        storages: dict[int, np.ndarray] = {}
        file = _member(tar, "storages")
        for _ in range(_load(file)):
            key, _location, dtype = _load(file)
            (count,) = struct.unpack("<q", file.read(8))
            storages[key] = _numbers(file, np.dtype(dtype), count)
        for view, root, offset, count in _load(file):
            storages[view] = storages[root][offset : offset + count]
        tensors: dict[int, np.ndarray] = {}
        file = _member(tar, "tensors")
        for _ in range(_load(file)):
            key, storage, _kind = _load(file)
            (ndim,) = struct.unpack("<i4x", file.read(8))
            shape = struct.unpack(f"<{ndim}q", file.read(8 * ndim))
            stride = struct.unpack(f"<{ndim}q", file.read(8 * ndim))
            (offset,) = struct.unpack("<q", file.read(8))
            tensors[key] = _view(storages[storage], shape, stride, offset)
        return dict(_TarUnpickler(_member(tar, "pickle"), tensors).load())


def _member(tar: tarfile.TarFile, name: str) -> IO[bytes]:
    file = tar.extractfile(name)
    if file is None:
        raise ValueError(f"no {name} in the archive")
    return file


def _load(file: IO[bytes]) -> Any:
    return _TarUnpickler(file).load()


def _numbers(file: IO[bytes], dtype: np.dtype, count: int) -> np.ndarray:
    content = file.read(count * dtype.itemsize)
    if len(content) != count * dtype.itemsize:
        raise ValueError("the file is cut short")
    numbers = np.frombuffer(content, dtype.newbyteorder("<"))
    return numbers.astype(np.float32) if dtype.kind == "f" else numbers


def _view(storage: np.ndarray, shape: tuple[int, ...], stride: tuple[int, ...], offset: int) -> np.ndarray:
    """Return a strided view of a storage as an array of its own; all of it must lie within the storage."""
    last = offset + sum((size - 1) * step for size, step in zip(shape, stride, strict=True))
    if min((*shape, *stride, offset, 0)) < 0 or (0 not in shape and last >= storage.size):
        raise ValueError("a tensor reaches beyond its storage")
    if 0 in shape:
        return np.zeros(shape, storage.dtype)
    steps = tuple(step * storage.itemsize for step in stride)
    return np.lib.stride_tricks.as_strided(storage[offset:], shape, steps, writeable=False).copy()
