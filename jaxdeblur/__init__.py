"""Train, evaluate and run single-image motion-deblurring networks in JAX.

import jaxdeblur

sharp = jaxdeblur.restore(image)  # with the default shipped network
sharp = jaxdeblur.restore(image, "runs/transformnet")  # with your own
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxdeblur.restoration.restorer import Restorer, load_restorer, restore

__version__ = "0.1.0"
__all__ = ["Restorer", "__version__", "load_restorer", "restore"]


def __getattr__(name: str) -> Any:
    """Import the public API on first use, so `import jaxdeblur` does not import JAX."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from jaxdeblur.restoration import restorer

    return getattr(restorer, name)
