"""The command `jaxdeblur`: every entry point of the package under one name.

    jaxdeblur restore photo.jpg

`jaxdeblur COMMAND --help` explains a command. Options may be written with hyphens or underscores.

Exit status: 0 if all went well; 1 if something failed, which the message explains; 2 if the command line cannot be
read; 130 after Ctrl-C; 141 if the output was piped into a program that ended.
"""

import argparse
import os
import sys
from collections.abc import Callable, Sequence

from jaxdeblur import __version__
from jaxdeblur.errors import InputError


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
    from jaxdeblur.config.command_line import train_flags

    _run_main(train_flags(arguments, prog=prog))


def _evaluate(arguments: Sequence[str], *, prog: str) -> None:
    from jaxdeblur.config.command_line import evaluate_flags

    _run_main(evaluate_flags(arguments, prog=prog))


def _run_main(flags: list[str]) -> None:
    from absl import app

    from jaxdeblur.main import main, parse_flags

    sys.argv = ["jaxdeblur.main", *flags]  # config_flags reads the fields from there
    app.run(main, flags_parser=parse_flags)


def _config(arguments: Sequence[str], *, prog: str) -> None:
    from jaxdeblur.config.command_line import show_config

    show_config(arguments, prog=prog)


def _weights(arguments: Sequence[str], *, prog: str) -> None:
    from jaxdeblur.weights.pretrained.listing import main

    main(arguments, prog=prog)


def _report(arguments: Sequence[str], *, prog: str) -> None:
    from jaxdeblur.report.command import main

    main(arguments, prog=prog)


def _convert(arguments: Sequence[str], *, prog: str) -> None:
    from jaxdeblur.export.convert_weights import main

    try:
        main(arguments, prog=prog)
    except OSError as error:
        sys.exit(f"error: {error}")


def _export(arguments: Sequence[str], *, prog: str) -> None:
    from jaxdeblur.export.command import main

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
    "restore": (_restore, "restore photos"),
    "video": (_video, "restore a video"),
    "web": (_web, "serve a page in the browser to restore photos"),
    "weights": (_weights, "list the networks that ship with the package"),
    "train": (_train, "train a network by a recipe"),
    "evaluate": (_evaluate, "score a run, or any weights, on pairs"),
    "report": (_report, "report the results of runs, or compare two runs"),
    "convert": (_convert, "convert weights from and to PyTorch"),
    "export": (_export, "export a network to ONNX or StableHLO"),
    "config": (_config, "list the recipes, or print the fields of one"),
    "synthesize": (_synthesize, "create pairs with synthetic blur from sharp photos or frames"),
    "check-photos": (_check_photos, "check sharp photos before creating blur from them"),
    "prepare-gopro": (_prepare_gopro, "convert GOPRO_Large to fast records"),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command, exiting with the status that the module describes."""
    command_line = sys.argv[1:] if arguments is None else list(arguments)
    lines = [f"  {name:14}{summary}" for name, (_, summary) in COMMANDS.items()]
    parser = argparse.ArgumentParser(
        prog="jaxdeblur",
        description=__doc__,
        epilog="\n".join(["commands:", *lines]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"jaxdeblur {__version__}")
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND", help="one of those below, with its options")
    name = parser.parse_args(command_line[:1]).command
    run, _ = COMMANDS[name]
    try:
        run(with_underscores(command_line[1:]), prog=f"jaxdeblur {name}")
        sys.stdout.flush()
    except InputError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        print("Stopped.", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:  # the reader of a pipe, such as head, has closed it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)


def with_underscores(arguments: Sequence[str]) -> list[str]:
    """Replace hyphens in option names by underscores; values, and arguments after a bare `--`, are unchanged."""
    changed: list[str] = []
    for i, argument in enumerate(arguments):
        if argument == "--":
            return changed + list(arguments[i:])
        name, equals, value = argument.partition("=")
        if name.startswith("--"):
            name = "--" + name[2:].replace("-", "_")
        changed.append(name + equals + value)
    return changed
