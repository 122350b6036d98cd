"""Train or evaluate a network: `python -m jaxdeblur.main --config configs/transformnet.py --workdir runs/mine`."""

import errno
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from absl import app, flags
from ml_collections import config_flags

from jaxdeblur.errors import InputError

_CONFIG = config_flags.DEFINE_config_file("config", None, "File of the recipe, as in configs/transformnet.py:smoke")
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run; runs/<config> if not given")
_INIT_FROM = flags.DEFINE_string("init_from", None, "Run or .safetensors to start from; sets config.start.network")
_MODE = flags.DEFINE_enum("mode", "train", ["train", "evaluate"], "Train, then evaluate; or evaluate a trained run")


# What absl and ml_collections raise for mistakes on the command line and in config files.
_MISTAKES = (
    flags.Error,
    AttributeError,
    ImportError,
    LookupError,
    NameError,
    OSError,
    SyntaxError,
    TypeError,
    ValueError,
)


def parse_flags(arguments: Sequence[str]) -> list[str]:
    """Parse the command line and load the config; a mistake ends with a clear message, not a traceback."""
    try:
        rest = flags.FLAGS(list(arguments))
        config = _CONFIG.value
        if config is not None:
            config.keys()  # a file that is not there is only reported when the config is used
            if _INIT_FROM.value:
                config.start.network = _INIT_FROM.value
    except _MISTAKES as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        # ml_collections wraps an error of the config file itself in a traceback; its last line says what is wrong.
        words = lines[-1] if any(line.startswith("Traceback") for line in lines) else "\n".join(lines)
        unknown = "no such field in the config: " if isinstance(error, (AttributeError, KeyError)) else ""
        sys.exit(f"error: the command line or the config cannot be read: {unknown}{words}")
    if len(rest) > 1:
        sys.exit(f"error: {rest[1]!r} is not a flag; write --config=... --workdir=...")
    if config is None:
        sys.exit("error: --config is missing; for example --config configs/transformnet.py")
    return rest


def main(arguments: Sequence[str]) -> None:
    """Run what the flags say; exit with status 1 and a message if the user can mend what is wrong."""
    del arguments
    logging.getLogger("jax").setLevel(logging.WARNING)
    logging.getLogger("absl").setLevel(logging.CRITICAL)  # orbax logs whole tracebacks; its exceptions reach us anyway
    # Imported here, so that --help and mistakes on the command line answer at once.
    from jaxdeblur.run import evaluate_again, train_and_evaluate

    source = Path(config_flags.get_config_filename(flags.FLAGS["config"])).name.replace(".py", "").replace(":", "-")
    workdir = Path(_WORKDIR.value or Path("runs") / source).expanduser()
    try:
        {"train": train_and_evaluate, "evaluate": evaluate_again}[_MODE.value](_CONFIG.value, workdir)
    except InputError as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        sys.exit(f"error: no space left on the disk of {workdir}. Free some and start the same command again to go on.")
    except KeyboardInterrupt:
        print("Stopped. Start the same command again to go on where the last checkpoint is.", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    app.run(main, flags_parser=parse_flags)
