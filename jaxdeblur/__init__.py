"""Train, judge and use networks that take motion blur out of single photographs, in JAX.

import jaxdeblur

sharp = jaxdeblur.restore(image, "runs/transformnet")
"""

from typing import Any

__version__ = "0.1.0"
__all__ = ["restore"]


def __getattr__(name: str) -> Any:
    """Import `restore` when it is asked for: reports, for instance, need no jax."""
    if name != "restore":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from jaxdeblur.restoration import restore

    return restore
