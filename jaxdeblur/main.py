"""Train or evaluate a network.

python -m jaxdeblur.main --config configs/transformnet.py --workdir runs/mine
python -m jaxdeblur.main --mode evaluate --workdir runs/mine
"""

import errno
import logging
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from absl import app, flags
from ml_collections import config_flags

from jaxdeblur.errors import InputError

_CONFIG = config_flags.DEFINE_config_file("config", None, "File of the recipe, as in configs/transformnet.py:smoke")
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run; runs/<config> if not given")
_INIT_FROM = flags.DEFINE_string(
    "init_from", None, "Shipped network, run or .safetensors to start from; sets config.start.network"
)
_COORDINATOR = flags.DEFINE_string(
    "coordinator_address", None, "One of several processes: host:port of process 0; wants the next two flags as well"
)
_PROCESS_COUNT = flags.DEFINE_integer("process_count", None, "How many processes share the run", lower_bound=1)
_PROCESS_ID = flags.DEFINE_integer("process_id", None, "This process's number, from 0", lower_bound=0)
_DISTRIBUTED = flags.DEFINE_bool(
    "distributed", False, "One of several processes, which JAX finds by itself: Slurm, TPU pods, Open MPI, Kubernetes"
)
_HEARTBEAT_TIMEOUT = flags.DEFINE_integer(
    "heartbeat_timeout", 100, "Seconds after which a silent process counts as dead and the others end", lower_bound=5
)
_MODE = flags.DEFINE_enum("mode", "train", ["train", "evaluate"], "Train, then evaluate; or evaluate a trained run")

_CHECKPOINTS = flags.DEFINE_string(
    "checkpoints", None, "With --mode evaluate: 'best' (the default), 'all', to choose the best of them, or a step"
)
_WEIGHTS = flags.DEFINE_string(
    "weights",
    None,
    "With --mode evaluate: shipped network, run or .safetensors to score, into a --workdir that holds no run",
)

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
        rest = flags.FLAGS(_with_config_of_run(list(arguments)))
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
    given = [flag.value is not None for flag in (_COORDINATOR, _PROCESS_COUNT, _PROCESS_ID)]
    if any(given) and (not all(given) or _DISTRIBUTED.value):
        sys.exit(
            "error: several processes want all of --coordinator_address, --process_count and --process_id, or "
            "--distributed alone"
        )
    if all(given) and not _PROCESS_ID.value < _PROCESS_COUNT.value:
        sys.exit(f"error: --process_id: {_PROCESS_ID.value}, expected 0 to {_PROCESS_COUNT.value - 1}")
    for flag in (_CHECKPOINTS, _WEIGHTS):
        if flag.value is not None and _MODE.value != "evaluate":
            sys.exit(f"error: --{flag.name} is for --mode evaluate")
    if _CHECKPOINTS.value and (_WEIGHTS.value or not re.fullmatch(r"best|all|\d+", _CHECKPOINTS.value)):
        sys.exit("error: --checkpoints: expected best, all or a step, and no --weights beside it")
    if config is None:
        sys.exit("error: --config is missing; for example --config configs/transformnet.py")
    return rest


def _with_config_of_run(arguments: list[str]) -> list[str]:
    """Let `--mode evaluate` read the config of the run in `--workdir`, in place of `--config`, if there is a run.

    A recipe that is given all the same is not read: the run may have been trained by another state of it.
    """
    known = flags.FlagValues()
    for name in ("mode", "workdir", "weights", "config"):
        flags.DEFINE_string(name, None, "", flag_values=known)
    known.set_gnu_getopt(True)
    known(arguments, known_only=True)
    if known["mode"].value != "evaluate" or known["weights"].value is not None:
        return arguments
    workdir = default_workdir(known["workdir"].value, known["config"].value)
    if workdir is None:
        sys.exit("error: --workdir is missing: the run to evaluate")
    if not (workdir / "config.json").exists():
        if known["config"].value is None:
            sys.exit(f"error: --workdir: {workdir} holds no run (no config.json). Train one first with --mode train.")
        return arguments  # the mistakes in --config are reported first
    if known["config"].value is not None:
        print(f"--config is not read: {workdir} is scored by its own config.json.", file=sys.stderr)
    rest, left_out = [], False
    for argument in arguments:
        if left_out:
            left_out = False
        elif argument in ("--config", "-config"):
            left_out = True
        elif not argument.startswith(("--config=", "-config=")):
            rest.append(argument)
    loader = Path(__file__).parent / "config" / "saved_run.py"
    return [rest[0], f"--config={loader}:{workdir}", f"--workdir={workdir}", *rest[1:]]


def default_workdir(workdir: str | None, config: str | None) -> Path | None:
    """Return the run's folder: `--workdir`, or else runs/<config>; None if neither is given."""
    if workdir is None and config is None:
        return None
    source = Path(config or "").name.replace(".py", "").replace(":", "-")
    return Path(workdir or Path("runs") / source).expanduser()


def main(arguments: Sequence[str]) -> None:
    """Run what the flags say; exit with status 1 and a message if the user can fix what is wrong."""
    del arguments
    logging.getLogger("jax").setLevel(logging.WARNING)
    logging.getLogger("absl").setLevel(logging.CRITICAL)  # orbax logs whole tracebacks; its exceptions reach us anyway
    # Imported here, so that --help and mistakes on the command line answer at once.
    from jaxdeblur.console import silence
    from jaxdeblur.experiment.workflows import evaluate_run, evaluate_weights, train_and_evaluate
    from jaxdeblur.runtime import processes
    from jaxdeblur.runtime.malloc import keep_freed_memory
    from jaxdeblur.weights.pretrained.catalogue import resolve_weights

    keep_freed_memory()
    several = _DISTRIBUTED.value or _COORDINATOR.value is not None
    workdir = default_workdir(_WORKDIR.value, config_flags.get_config_filename(flags.FLAGS["config"]))
    try:
        if several:
            place = (_COORDINATOR.value, _PROCESS_COUNT.value, _PROCESS_ID.value)
            processes.join(*place, heartbeat_timeout=_HEARTBEAT_TIMEOUT.value)
            if not processes.is_primary():
                silence()
        if _MODE.value == "train":
            train_and_evaluate(_CONFIG.value, workdir)
        elif _WEIGHTS.value:
            evaluate_weights(_CONFIG.value, workdir, resolve_weights(_WEIGHTS.value))
        else:
            evaluate_run(_CONFIG.value, workdir, _CHECKPOINTS.value or "best")
    except (Exception, KeyboardInterrupt) as error:
        words = explain(error, workdir)
        if several:
            processes.leave_at_once(error, words)
        if not words:
            raise
        print(words, file=sys.stderr)
        sys.exit(130 if isinstance(error, KeyboardInterrupt) else 1)


def explain(error: BaseException, workdir: Path) -> str:
    """Return what to tell the user; empty for what only a traceback explains."""
    if isinstance(error, InputError):
        return f"error: {error}"
    if isinstance(error, KeyboardInterrupt):
        return "Stopped. Start the same command again to go on where the last checkpoint is."
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        what = "the disk is full" if error.errno == errno.ENOSPC else "your disk quota is used up"
        where = error.filename or workdir
        return f"error: {where}: {what}. Free some space and start the same command again to go on."
    if _is_out_of_memory(error):
        return (
            f"error: out of memory ({str(error).splitlines()[0] if str(error) else 'of the system'}). What was saved "
            "stays; start the same command again to go on, with less memory: a lower --config.evaluation.batch_size if "
            "it ran out while validating or scoring, --config.compute.remat=true if while training."
        )
    return ""


def _is_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError):
        return True
    from jax.errors import JaxRuntimeError

    return isinstance(error, JaxRuntimeError) and "RESOURCE_EXHAUSTED" in str(error)


if __name__ == "__main__":
    app.run(main, flags_parser=parse_flags)
