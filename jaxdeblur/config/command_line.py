"""Command lines that name a recipe or a run: `jaxdeblur train | evaluate | config` and `--mode evaluate`.

Nothing here imports JAX: --help and mistakes on the command line are answered at once.
"""

import argparse
import ast
import runpy
import sys
from collections.abc import Sequence
from pathlib import Path

from absl import flags

from jaxdeblur.config.recipes import describe_fields, find_recipe, list_variants, recipe_folder
from jaxdeblur.errors import InputError

_RECIPE_HELP = "a recipe's name, as nafnet or nafnet:photographs, or a .py file"


def train_flags(arguments: Sequence[str], *, prog: str) -> list[str]:
    """Return the flags of `jaxdeblur.main` for `jaxdeblur train`."""
    parser = _make_parser(prog, "Train a network, resuming a stopped run; then score it and write the report.")
    parser.add_argument("recipe", metavar="RECIPE", help=_RECIPE_HELP)
    parser.add_argument("--init", help="start from a shipped network's name, a run, or a .safetensors")
    options, remaining = parser.parse_known_args(arguments)
    init = [f"--config.init.network={options.init}"] if options.init else []
    return [*_common_flags(options), *init, *remaining]


def evaluate_flags(arguments: Sequence[str], *, prog: str) -> list[str]:
    """Return the flags of `jaxdeblur.main` for `jaxdeblur evaluate`."""
    parser = _make_parser(prog, "Score a run, or the weights that --weights names, and write the report.")
    parser.add_argument("recipe", metavar="RECIPE", nargs="?", help=f"{_RECIPE_HELP}; a run has its own config")
    parser.add_argument("--weights", help="score a shipped network, a run or a .safetensors; --workdir gets the scores")
    options, remaining = parser.parse_known_args(arguments)
    weights = [f"--weights={options.weights}"] if options.weights else []
    return [*_common_flags(options), "--mode=evaluate", *weights, *remaining]


def show_config(arguments: Sequence[str], *, prog: str) -> None:
    """List the recipes, or print the resolved config of one: every field with its value and meaning.

    Raises:
        InputError: there is no such recipe or variant.
    """
    parser = argparse.ArgumentParser(prog=prog, description="List the recipes, or print the resolved config of one.")
    parser.add_argument("recipe", nargs="?", help=_RECIPE_HELP)
    parser.add_argument("--variant", help="of the recipe, as recommended")
    parser.add_argument("--path", action="store_true", help="print the path of the recipe's file instead")
    options = parser.parse_args(arguments)
    if options.recipe is None:
        for path in sorted(recipe_folder().glob("*.py")):
            print(f"{path.stem}: {(ast.get_docstring(ast.parse(path.read_text())) or '').partition(chr(10))[0]}")
        return
    path, variant = _resolve_recipe(options)
    if options.path:
        print(path)
        return
    try:
        config = runpy.run_path(str(path))["get_config"](variant or "default")
    except ValueError as error:
        raise InputError(f"--variant: {error}.", code="recipe-variant") from error
    print(f"# {path.stem}; variants: {', '.join(list_variants(path))}")
    for name, value, description in describe_fields(config):
        print(f"{name} = {value!r}" + (f"  # {description}" if description else ""))


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
    parser.add_argument("--workdir", metavar="FOLDER", help="of the run; default: runs/RECIPE-VARIANT")
    return parser


def _resolve_recipe(options: argparse.Namespace) -> tuple[Path, str | None]:
    """Return the file and the variant of a recipe given as `NAME`, `NAME:VARIANT` or `NAME --variant VARIANT`."""
    name, _, variant = options.recipe.partition(":")
    return find_recipe(name), options.variant or variant or None


def _common_flags(options: argparse.Namespace) -> list[str]:
    result = []
    if options.recipe:
        path, variant = _resolve_recipe(options)
        result.append(f"--config={path}{f':{variant}' if variant else ''}")
    result += [f"--workdir={options.workdir}"] if options.workdir else []
    return result + ([f"--config.data.root={options.data}"] if options.data else [])


def use_config_of_run(arguments: list[str]) -> list[str]:
    """Return the flags with which `--mode evaluate` reads the config of the run in `--workdir` instead of a recipe.

    A recipe that is given as well is ignored: it may have changed since the run was trained.
    """
    run_flags = flags.FlagValues()
    for name in ("mode", "workdir", "weights", "config"):
        flags.DEFINE_string(name, None, "", flag_values=run_flags)
    run_flags.set_gnu_getopt(True)
    run_flags(arguments, known_only=True)
    if run_flags["mode"].value != "evaluate" or run_flags["weights"].value is not None:
        return arguments
    recipe = run_flags["config"].value
    workdir = default_workdir(run_flags["workdir"].value, recipe)
    if workdir is None:
        sys.exit("error: --workdir is missing: the run to evaluate")
    if not (workdir / "config.json").exists():
        if recipe is None:
            sys.exit(f"error: --workdir: {workdir} holds no run (no config.json). Train one first with --mode train.")
        return arguments  # errors in --config are reported first
    if recipe is not None:
        print(f"--config is ignored: {workdir} is scored with its own config.json.", file=sys.stderr)
    program, *rest = _without_config(arguments)
    loader = Path(__file__).with_name("saved_run.py")
    return [program, f"--config={loader}:{workdir}", f"--workdir={workdir}", *rest]


def _without_config(arguments: list[str]) -> list[str]:
    """Return the arguments without `--config FILE` and `--config=FILE`."""
    rest, skip = [], False
    for argument in arguments:
        if skip:
            skip = False
        elif argument in ("--config", "-config"):
            skip = True
        elif not argument.startswith(("--config=", "-config=")):
            rest.append(argument)
    return rest


def default_workdir(workdir: str | None, config: str | None) -> Path | None:
    """Return the run's folder: `--workdir`, else runs/<recipe>-<variant>; None if neither is given."""
    if workdir is None and config is None:
        return None
    recipe = Path(config or "").name.replace(".py", "").replace(":", "-")
    return Path(workdir or Path("runs") / recipe).expanduser()
