"""Optional packages: imported when they are needed; where one is missing, the extra that installs it is named."""

import importlib
from types import ModuleType

from jaxdeblur.errors import InputError

# The extra of pyproject.toml that installs a module, and the name the package is known by.
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
    """Return a module of `EXTRAS`, imported.

    Args:
        module: its name.
        what: what needs it, as the start of a sentence: "Writing ONNX".

    Raises:
        InputError: it is not installed, or is and cannot be imported; code "missing-extra" or "broken-extra".
    """
    extra, package = EXTRAS[module]
    try:
        return importlib.import_module(module)
    except ImportError as error:
        if isinstance(error, ModuleNotFoundError) and error.name == module:
            remedy, code = f"not installed: pip install 'jaxdeblur[{extra}]'.", "missing-extra"
        else:  # such as a shared library that the package loads
            remedy, code = f"installed but cannot be imported ({error}).", "broken-extra"
        raise InputError(f"{what} needs {package}, which is {remedy}", code=code) from error
