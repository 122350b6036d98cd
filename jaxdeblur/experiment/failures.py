"""Explains failures of a run that the user can fix."""

import errno
from pathlib import Path

from jaxdeblur.errors import InputError


def explain(error: BaseException, workdir: Path) -> str:
    """Return the message for the user; "" for errors that need their traceback."""
    if isinstance(error, InputError):
        return f"error: {error}"
    if isinstance(error, KeyboardInterrupt):
        return "Stopped. Run the same command again to resume from the last checkpoint."
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        cause = "the disk is full" if error.errno == errno.ENOSPC else "your disk quota is used up"
        path = error.filename or workdir
        return f"error: {path}: {cause}. Free some space and run the same command again to resume."
    if _is_out_of_memory(error):
        detail = str(error).splitlines()[0] if str(error) else "of the system"
        return (
            f"error: out of memory ({detail}). Checkpoints are kept; run the same command again to resume with less "
            "memory: a lower --config.evaluation.batch_size if it failed in validation or scoring, "
            "--config.compute.remat=true if in training."
        )
    return ""


def _is_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError):
        return True
    from jax.errors import JaxRuntimeError

    return isinstance(error, JaxRuntimeError) and "RESOURCE_EXHAUSTED" in str(error)
