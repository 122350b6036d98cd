"""Recipes by name, and `jaxdeblur train`, `evaluate` and `config`, which take them: nothing here imports JAX.

A recipe is a file with a function `get_config(variant)`. The project's own are in `configs/` at the top of a checkout
and, installed, in the package's folder `configs`.
"""

import argparse
import ast
import runpy
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from jaxdeblur.errors import InputError

_PACKAGE = Path(__file__).parent
_RECIPE_HELP = "a recipe's name, as nafnet, or a .py file"


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


def train(arguments: Sequence[str], *, prog: str) -> None:
    """Train, then evaluate and write the report: `jaxdeblur.main` with a recipe's name and shorter options."""
    parser = _make_parser(
        prog, "Train a network, continuing a run that was stopped; then score it and write the report."
    )
    parser.add_argument("recipe", metavar="RECIPE", help=_RECIPE_HELP)
    parser.add_argument("--init", help="start from a shipped network's name, a run, or a .safetensors")
    options, others = parser.parse_known_args(arguments)
    start = [f"--config.start.network={options.init}"] if options.init else []
    _run_main(options, [*start, *others])


def evaluate(arguments: Sequence[str], *, prog: str) -> None:
    """Score a trained run, or any weights with `--weights`: `jaxdeblur.main --mode evaluate`."""
    parser = _make_parser(prog, "Score a run, or the weights that --weights names, and write the report.")
    words = f"{_RECIPE_HELP}; a run has its own config and needs none"
    parser.add_argument("recipe", metavar="RECIPE", nargs="?", help=words)
    parser.add_argument("--weights", help="score a shipped network, a run or a .safetensors; --workdir gets the scores")
    options, others = parser.parse_known_args(arguments)
    weights = [f"--weights={options.weights}"] if options.weights else []
    _run_main(options, ["--mode=evaluate", *weights, *others])


def show_config(arguments: Sequence[str], *, prog: str) -> None:
    """List the recipes, or print all fields of one as they are set on the command line."""
    parser = argparse.ArgumentParser(prog=prog, description="List the recipes, or print the fields of one.")
    parser.add_argument("recipe", nargs="?", help="a recipe's name, or a .py file")
    parser.add_argument("--variant", default="default", help="of the recipe (%(default)s)")
    parser.add_argument(
        "--path", action="store_true", help="print the recipe's file instead, whose comments explain it"
    )
    options = parser.parse_args(arguments)
    if options.recipe is None:
        for path in sorted(recipe_folder().glob("*.py")):
            print(f"{path.stem}: {ast.get_docstring(ast.parse(path.read_text())).splitlines()[0]}")
        return
    path = find_recipe(options.recipe)
    if options.path:
        print(path)
        return
    try:
        config = runpy.run_path(str(path))["get_config"](options.variant)
    except ValueError as error:
        raise InputError(f"--variant: {error}.", code="recipe-variant") from error
    for name, value in _fields(config, ""):
        print(f"{name} = {value!r}")


def _make_parser(prog: str, description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog,
        allow_abbrev=False,
        description=description,
        epilog="Any field of the recipe: --config.data.batch_size=8. `jaxdeblur config RECIPE` prints them all. Other "
        "options are those of `python -m jaxdeblur.main --help`.",
    )
    parser.add_argument("--variant", help="of the recipe, as recommended")
    parser.add_argument("--data", metavar="PATH", help="the pairs: sets --config.data.root")
    parser.add_argument("--workdir", metavar="FOLDER", help="of the run; if not given, runs/RECIPE-VARIANT")
    return parser


def _run_main(options: argparse.Namespace, others: list[str]) -> None:
    """Call `jaxdeblur.main` with the flags that the options stand for; `others` follow as they are."""
    flags = []
    if options.recipe:
        flags.append(f"--config={find_recipe(options.recipe)}{f':{options.variant}' if options.variant else ''}")
    flags += [f"--workdir={options.workdir}"] if options.workdir else []
    flags += [f"--config.data.root={options.data}"] if options.data else []

    from absl import app

    from jaxdeblur.main import main, parse_flags

    sys.argv = ["jaxdeblur.main", *flags, *others]  # config_flags reads the fields there, wherever flags come from
    app.run(main, flags_parser=parse_flags)


def _fields(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Yield names and values of a config's fields, as in stages[0].loss."""
    if hasattr(value, "items"):
        for key, inner in value.items():
            yield from _fields(inner, f"{name}.{key}" if name else key)
    elif isinstance(value, tuple) and value and hasattr(value[0], "get_ref"):  # stages: ConfigDicts
        for i, inner in enumerate(value):
            yield from _fields(inner, f"{name}[{i}]")
    else:
        yield name, value
