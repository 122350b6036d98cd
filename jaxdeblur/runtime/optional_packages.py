"""Imports optional packages on demand; the error for a missing one names the extra that installs it."""

import importlib
from types import ModuleType

from jaxdeblur.errors import InputError

# By module: the extra of pyproject.toml that installs it, and the package's usual name.
EXTRAS = {
    "av": ("video", "PyAV"),
    "cv2": ("made-blur", "OpenCV"),
    "flatbuffers": ("export", "flatbuffers"),
    "gradio": ("demo", "Gradio"),
    "onnx": ("export", "onnx"),
    "onnxruntime": ("export", "onnxruntime"),
    "pytest": ("test", "pytest"),
    "skimage": ("demo-data", "scikit-image"),
    "sklearn": ("demo-data", "scikit-learn"),
    "torch": ("convert", "PyTorch"),
}


def require(module: str, what: str) -> ModuleType:
    """Import and return a module of `EXTRAS`.

    Args:
        module: its name.
        what: what needs the module, as the start of a sentence, such as "Writing ONNX".

    Raises:
        InputError: it is not installed (code "missing-extra") or cannot be imported ("broken-extra").
    """
    extra, package = EXTRAS[module]
    try:
        return importlib.import_module(module)
    except ImportError as error:
        if isinstance(error, ModuleNotFoundError) and error.name == module:
            remedy, code = f"not installed: pip install 'jaxdeblur[{extra}]'.", "missing-extra"
        else:  # for example, a shared library that the package loads is missing
            remedy, code = f"installed but cannot be imported ({error}).", "broken-extra"
        raise InputError(f"{what} needs {package}, which is {remedy}", code=code) from error
