"""Train or evaluate a network.

python -m jaxdeblur.main --config configs/transformnet.py --workdir runs/mine
python -m jaxdeblur.main --mode evaluate --workdir runs/mine
"""

import logging
import re
import sys
from collections.abc import Sequence

from absl import app, flags
from ml_collections import config_flags

from jaxdeblur.config.command_line import default_workdir, use_config_of_run
from jaxdeblur.config.legacy import RENAMED, new_name

_CONFIG = config_flags.DEFINE_config_file("config", None, "File of the recipe, as in configs/transformnet.py:smoke")
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run; runs/<config> if not given")
_INIT_FROM = flags.DEFINE_string(
    "init_from", None, "Shipped network, run or .safetensors to start from; sets config.init.network"
)
_COORDINATOR = flags.DEFINE_string(
    "coordinator_address", None, "One of several processes: host:port of process 0; needs the next two flags too"
)
_PROCESS_COUNT = flags.DEFINE_integer("process_count", None, "How many processes share the run", lower_bound=1)
_PROCESS_ID = flags.DEFINE_integer("process_id", None, "This process's number, from 0", lower_bound=0)
_DISTRIBUTED = flags.DEFINE_bool(
    "distributed", False, "One of several processes, which JAX detects itself: Slurm, TPU pods, Open MPI, Kubernetes"
)
_HEARTBEAT_TIMEOUT = flags.DEFINE_integer(
    "heartbeat_timeout",
    100,
    "Seconds without a sign of life after which a process counts as dead and the others exit",
    lower_bound=5,
)
_MODE = flags.DEFINE_enum("mode", "train", ["train", "evaluate"], "Train, then evaluate; or evaluate a trained run")

_CHECKPOINTS = flags.DEFINE_string(
    "checkpoints", None, "With --mode evaluate: 'best' (default), 'all' to choose the best of all, or a step"
)
_WEIGHTS = flags.DEFINE_string(
    "weights",
    None,
    "With --mode evaluate: shipped network, run or .safetensors to score, into a --workdir that holds no run",
)

# Raised by absl and ml_collections for errors on the command line and in config files.
_USER_ERRORS = (
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
    """Parse the command line and load the config; an error exits with a message, not a traceback."""
    try:
        rest = flags.FLAGS(use_config_of_run(list(arguments)))
        config = _CONFIG.value
        if config is not None:
            config.keys()  # a missing file is only reported when the config is used
            if _INIT_FROM.value:
                config.init.network = _INIT_FROM.value
    except _USER_ERRORS as error:
        sys.exit(f"error: the command line or the config cannot be read: {_describe(error)}")
    if len(rest) > 1:
        sys.exit(f"error: {rest[1]!r} is not a flag; write --config=... --workdir=...")
    _check_flags()
    if config is None:
        sys.exit("error: --config is missing; for example --config configs/transformnet.py")
    return rest


def _describe(error: Exception) -> str:
    """Describe an error, with file and line if a config file raised it, and with the new name of a renamed field."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if any(line.startswith("Traceback") for line in lines):  # ml_collections wraps errors of a config file in one
        locations = [line for line in lines if line.startswith("File ")]
        return " ".join([lines[-1], *(f"({location})" for location in locations[-1:])])
    message = "\n".join(lines)
    if not isinstance(error, (AttributeError, KeyError)):
        return message
    renamed = [
        f"{old} is now {new_name(old)}" for old in [*RENAMED, "data.rescale"] if f"config.{old}" in " ".join(sys.argv)
    ]
    return "; ".join([f"no such field in the config: {message}", *renamed])


def _check_flags() -> None:
    """Exit with a message if flags contradict each other."""
    given = [flag.value is not None for flag in (_COORDINATOR, _PROCESS_COUNT, _PROCESS_ID)]
    if any(given) and (not all(given) or _DISTRIBUTED.value):
        sys.exit(
            "error: several processes need all of --coordinator_address, --process_count and --process_id, or "
            "--distributed alone"
        )
    process_id, count = _PROCESS_ID.value, _PROCESS_COUNT.value
    if process_id is not None and count is not None and process_id >= count:
        sys.exit(f"error: --process_id: {process_id}, expected 0 to {count - 1}")
    for flag in (_CHECKPOINTS, _WEIGHTS):
        if flag.value is not None and _MODE.value != "evaluate":
            sys.exit(f"error: --{flag.name} is for --mode evaluate")
    if _CHECKPOINTS.value and (_WEIGHTS.value or not re.fullmatch(r"best|all|\d+", _CHECKPOINTS.value)):
        sys.exit("error: --checkpoints: expected best, all or a step, and not together with --weights")


def main(arguments: Sequence[str]) -> None:
    """Run the command; exit with status 1 and a message if the user can fix what is wrong."""
    del arguments
    logging.getLogger("jax").setLevel(logging.WARNING)
    logging.getLogger("absl").setLevel(logging.CRITICAL)  # orbax logs whole tracebacks; its exceptions reach us anyway
    # Imported here so that --help and errors on the command line are answered at once.
    from jaxdeblur.console import silence
    from jaxdeblur.experiment.failures import explain
    from jaxdeblur.experiment.workflows import evaluate_run, evaluate_weights, train_and_evaluate
    from jaxdeblur.runtime import processes
    from jaxdeblur.runtime.malloc import keep_freed_memory
    from jaxdeblur.weights.pretrained.catalogue import resolve_weights

    keep_freed_memory()
    several = _DISTRIBUTED.value or _COORDINATOR.value is not None
    workdir = default_workdir(_WORKDIR.value, config_flags.get_config_filename(flags.FLAGS["config"]))
    assert workdir is not None  # parse_flags requires a config
    try:
        if several:
            address = (_COORDINATOR.value, _PROCESS_COUNT.value, _PROCESS_ID.value)
            processes.join(*address, heartbeat_timeout=_HEARTBEAT_TIMEOUT.value)
            if not processes.is_primary():
                silence()
        if _MODE.value == "train":
            train_and_evaluate(_CONFIG.value, workdir)
        elif _WEIGHTS.value:
            evaluate_weights(_CONFIG.value, workdir, resolve_weights(_WEIGHTS.value))
        else:
            evaluate_run(_CONFIG.value, workdir, _CHECKPOINTS.value or "best")
    except (Exception, KeyboardInterrupt) as error:
        message = explain(error, workdir)
        if several:
            processes.abort(error, message)
        if not message:
            raise
        print(message, file=sys.stderr)
        sys.exit(130 if isinstance(error, KeyboardInterrupt) else 1)


if __name__ == "__main__":
    app.run(main, flags_parser=parse_flags)
