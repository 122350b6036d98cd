"""Recipes by name. Nothing here imports JAX.

A recipe is a file with a function `get_config(variant)`. The project's own are in `configs/` at the top of a checkout
and, installed, in the package's folder `configs`.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jaxdeblur.errors import InputError

_PACKAGE = Path(__file__).parents[1]


def recipe_folder() -> Path:
    """Return the folder of the project's recipes."""
    installed = _PACKAGE / "configs"
    return installed if installed.is_dir() else _PACKAGE.parent / "configs"


def find_recipe(name: str) -> Path:
    """Return the file of a recipe: one of the project's by name, as nafnet, or any file that ends in .py.

    Raises:
        InputError: there is none.
    """
    path = Path(name).expanduser() if name.endswith(".py") else recipe_folder() / f"{name}.py"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in recipe_folder().glob("*.py")))
        raise InputError(
            f"{name}: no recipe of that name, and no such file. Expected one of {known}, or a .py file.",
            code="recipe-not-found",
        )
    return path


def list_fields(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Yield names and values of a config's fields, as in stages[0].loss."""
    if hasattr(value, "items"):
        for key, inner in value.items():
            yield from list_fields(inner, f"{name}.{key}" if name else key)
    elif isinstance(value, tuple) and value and hasattr(value[0], "get_ref"):  # stages: ConfigDicts
        for i, inner in enumerate(value):
            yield from list_fields(inner, f"{name}[{i}]")
    else:
        yield name, value
