"""The command `jaxdeblur`: every entry point of the package under one name.

    jaxdeblur restore photo.jpg

`jaxdeblur COMMAND --help` explains a command. Options may be written with hyphens or underscores.

Exit status: 0 if all went well; 1 if something failed, which the message explains; 2 if the command line cannot be
read; 130 after Ctrl-C.
"""

import argparse
import ast
import runpy
import sys
from collections.abc import Callable, Sequence

from jaxdeblur import __version__
from jaxdeblur.config.recipes import find_recipe, list_fields, recipe_folder
from jaxdeblur.errors import InputError

_RECIPE_HELP = "a recipe's name, as nafnet, or a .py file"


def _restore(arguments: Sequence[str], *, prog: str) -> None:
    from jaxdeblur.predict import main

    main(arguments, prog=prog)


def _video(arguments: Sequence[str], *, prog: str) -> None:
    from jaxdeblur.video import main

    main(arguments, prog=prog)


def _web(arguments: Sequence[str], *, prog: str) -> None:
    from jaxdeblur.demo import main

    main(arguments, prog=prog)


def _train(arguments: Sequence[str], *, prog: str) -> None:
    """Train, then evaluate and write the report: `jaxdeblur.main` with a recipe's name and shorter options."""
    parser = _make_parser(
        prog, "Train a network, continuing a run that was stopped; then score it and write the report."
    )
    parser.add_argument("recipe", metavar="RECIPE", help=_RECIPE_HELP)
    parser.add_argument("--init", help="start from a shipped network's name, a run, or a .safetensors")
    options, others = parser.parse_known_args(arguments)
    start = [f"--config.start.network={options.init}"] if options.init else []
    _run_main(options, [*start, *others])


def _evaluate(arguments: Sequence[str], *, prog: str) -> None:
    """Score a trained run, or any weights with `--weights`: `jaxdeblur.main --mode evaluate`."""
    parser = _make_parser(prog, "Score a run, or the weights that --weights names, and write the report.")
    words = f"{_RECIPE_HELP}; a run has its own config and needs none"
    parser.add_argument("recipe", metavar="RECIPE", nargs="?", help=words)
    parser.add_argument("--weights", help="score a shipped network, a run or a .safetensors; --workdir gets the scores")
    options, others = parser.parse_known_args(arguments)
    weights = [f"--weights={options.weights}"] if options.weights else []
    _run_main(options, ["--mode=evaluate", *weights, *others])


def _config(arguments: Sequence[str], *, prog: str) -> None:
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
    for name, value in list_fields(config, ""):
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


def _weights(arguments: Sequence[str], *, prog: str) -> None:
    from jaxdeblur.weights.pretrained.listing import main

    main(arguments, prog=prog)


def _synthesize(arguments: Sequence[str], *, prog: str) -> None:
    from jaxdeblur.synthesis.command import main

    main(arguments, prog=prog)


def _check_photos(arguments: Sequence[str], *, prog: str) -> None:
    from jaxdeblur.synthesis.check_photos import main

    main(arguments, prog=prog)


def _prepare_gopro(arguments: Sequence[str], *, prog: str) -> None:
    from jaxdeblur.data.gopro.command import main

    main(arguments, prog=prog)


COMMANDS: dict[str, tuple[Callable[..., None], str]] = {
    "restore": (_restore, "restore photographs"),
    "video": (_video, "restore a video"),
    "web": (_web, "serve a page in the browser to restore photographs"),
    "weights": (_weights, "list the networks that ship with the package"),
    "train": (_train, "train a network by a recipe"),
    "evaluate": (_evaluate, "score a run, or any weights, on pairs"),
    "config": (_config, "list the recipes, or print the fields of one"),
    "synthesize": (_synthesize, "create pairs with synthetic blur from sharp photos or frames"),
    "check-photos": (_check_photos, "check sharp photos before creating blur from them"),
    "prepare-gopro": (_prepare_gopro, "convert GOPRO_Large to fast records"),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command, exiting with the status that the module describes."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    lines = [f"  {name:14}{words}" for name, (_, words) in COMMANDS.items()]
    parser = argparse.ArgumentParser(
        prog="jaxdeblur",
        description=__doc__,
        epilog="\n".join(["commands:", *lines]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"jaxdeblur {__version__}")
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND", help="one of those below, with its options")
    name = parser.parse_args(given[:1]).command
    run, _ = COMMANDS[name]
    try:
        run(with_underscores(given[1:]), prog=f"jaxdeblur {name}")
    except InputError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        print("Stopped.", file=sys.stderr)
        sys.exit(130)


def with_underscores(arguments: Sequence[str]) -> list[str]:
    """Return arguments with hyphens in names of options turned into underscores; their values, and what follows a bare
    `--`, stay as they are.
    """
    changed: list[str] = []
    for i, argument in enumerate(arguments):
        if argument == "--":
            return changed + list(arguments[i:])
        name, equals, value = argument.partition("=")
        if name.startswith("--"):
            name = "--" + name[2:].replace("-", "_")
        changed.append(name + equals + value)
    return changed
