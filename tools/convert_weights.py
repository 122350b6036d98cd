"""Convert weights from and to PyTorch; the same as `jaxdeblur convert`."""

import sys

from jaxdeblur.errors import InputError
from jaxdeblur.export.convert_weights import main

if __name__ == "__main__":
    try:
        main(prog="python tools/convert_weights.py")
    except (InputError, OSError) as error:
        sys.exit(f"error: {error}")
