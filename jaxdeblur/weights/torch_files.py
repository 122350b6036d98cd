"""Reads PyTorch's checkpoint files as NumPy arrays, without executing anything they may contain.

Files go through `torch.load(weights_only=True)`, which reads zip files and the format of 2017 to 2020.
"""

import re
from pathlib import Path
from typing import Any

from jaxdeblur.errors import InputError
from jaxdeblur.runtime.optional_packages import require

# What training code stores next to weights: NumPy's scalars and random states, options, paths. Each of these names is
# resolved to `Inert` when a file is read, so nothing of theirs is called and their contents are discarded.
IGNORED = (
    *(f"numpy.{core}.multiarray.{name}" for core in ("core", "_core") for name in ("scalar", "_reconstruct")),
    "numpy.ndarray",
    "numpy.dtype",
    "argparse.Namespace",
    *(f"{module}.{name}" for module in ("pathlib", "pathlib._local") for name in ("PosixPath", "WindowsPath")),
)


class Inert:
    """Accepts any arguments and any state, and stores none of it."""

    def __new__(cls, *_: Any) -> "Inert":
        """Return an empty object."""
        return super().__new__(cls)

    def __setstate__(self, state: Any) -> None:
        """Do nothing."""


def read_torch_file(path: Path) -> dict[str, Any]:
    """Return the contents of a `.pth`, tensors as arrays; float16 and bfloat16 become float32.

    Raises:
        InputError: there is no such file, it is corrupt or contains code, or PyTorch is not installed.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file.", code="no-such-file")
    try:
        loaded = _load(path)
    except InputError:
        raise
    except Exception as error:  # corrupt and malicious files fail in many ways
        if name := re.search(r"GLOBAL (\S+)", str(error)):
            raise InputError(
                f"{path}: references {name[1]}, which does not belong in a state dict; files that contain code are "
                "never loaded. Save only model.state_dict().",
                code="checkpoint-unsafe",
            ) from error
        reason = str(error).split("\n")[0]
        raise InputError(
            f"{path}: cannot be read as a PyTorch checkpoint ({type(error).__name__}: {reason}). It is corrupt, or "
            "holds more than tensors; files that contain code are never loaded.",
            code="checkpoint-damaged",
        ) from error
    if not isinstance(loaded, dict):
        raise InputError(
            f"{path}: holds a {type(loaded).__name__}, expected a state dict. Save model.state_dict().",
            code="checkpoint-without-tensors",
        )
    return loaded


def _load(path: Path) -> Any:
    torch = require("torch", f"{path}: reading PyTorch's own format, unlike .safetensors,")

    def to_numpy(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: to_numpy(item) for key, item in value.items()}
        if not isinstance(value, torch.Tensor):
            return value
        return (value.float() if value.is_floating_point() else value).detach().contiguous().numpy()

    with torch.serialization.safe_globals([(Inert, name) for name in IGNORED]):
        return to_numpy(torch.load(path, map_location="cpu", weights_only=True))
