"""Train, judge and use networks that take motion blur out of single photographs, in JAX.

import jaxdeblur

sharp = jaxdeblur.restore(image)  # with the network that ships
sharp = jaxdeblur.restore(image, "runs/transformnet")  # with one of your own
"""

from typing import Any

__version__ = "0.1.0"
__all__ = ["Restorer", "load_restorer", "restore"]


def __getattr__(name: str) -> Any:
    """Import the public API on first use: reports, for instance, need no jax."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from jaxdeblur.restoration import restorer

    return getattr(restorer, name)
