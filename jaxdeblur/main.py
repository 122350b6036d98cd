"""Train or evaluate a network: `python -m jaxdeblur.main --config configs/transformnet.py --workdir runs/mine`."""

import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from absl import app, flags
from ml_collections import config_flags

from jaxdeblur.errors import InputError

_CONFIG = config_flags.DEFINE_config_file("config", None, "File of the recipe, as in configs/transformnet.py:smoke")
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run; runs/<config> if not given")
_MODE = flags.DEFINE_enum("mode", "train", ["train", "evaluate"], "Train, then evaluate; or evaluate a trained run")


def parse_flags(arguments: Sequence[str]) -> list[str]:
    """Parse the command line; mistakes in it and in the config end with one clear line, not a traceback."""
    try:
        return flags.FLAGS(list(arguments))
    except (flags.Error, AttributeError, KeyError, IndexError, TypeError, ValueError, OSError, SyntaxError) as error:
        lines = [line for line in str(error).splitlines() if line.strip()]
        sys.exit("error: the command line or the config cannot be read: " + "\n".join(lines))


def main(arguments: Sequence[str]) -> None:
    """Run what the flags say; exit with status 1 and a message if the user can mend what is wrong."""
    if len(arguments) > 1:
        sys.exit(f"error: {arguments[1]!r} is not a flag; write --config=..., --workdir=...")
    if _CONFIG.value is None:
        sys.exit("error: --config is missing; for example --config configs/transformnet.py")
    for name in ("absl", "jax"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # Imported here, so that --help and mistakes in flags answer at once.
    from jaxdeblur.run import evaluate_again, train_and_evaluate

    source = Path(config_flags.get_config_filename(flags.FLAGS["config"])).name.replace(".py", "").replace(":", "-")
    workdir = Path(_WORKDIR.value or Path("runs") / source).expanduser()
    try:
        {"train": train_and_evaluate, "evaluate": evaluate_again}[_MODE.value](_CONFIG.value, workdir)
    except InputError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    app.run(main, flags_parser=parse_flags)
