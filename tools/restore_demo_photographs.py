"""Blur the demo's test photos, restore them with the shipped network, and write a before/after page.

    python tools/restore_demo_photographs.py --output runs/demo-photographs/before_after.html

The photos ship with scikit-image and scikit-learn; the network was trained on none of them. Each is blurred at full
size by a synthetic camera shake of a different length.
"""

import argparse
import dataclasses
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from make_demo_data import PHOTOS, SEED, SHAKE, blur_photo, load_photo

from jaxdeblur.errors import InputError
from jaxdeblur.report.before_after import Comparison, write_before_after
from jaxdeblur.runtime.optional_packages import require
from jaxdeblur.weights.pretrained.catalogue import WEIGHTS_HELP, find_shipped, resolve_weights

# Length of the camera shake's path in each test photo, in pixels.
PATHS = {"astronaut": 8.0, "chelsea": 5.0, "china": 4.0, "flower": 10.0, "motorcycle": 12.0}
TITLE = "Photographs before and after"


def main() -> None:
    """Write the page; print its verdict and path."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="the .html file; an existing one is overwritten")
    parser.add_argument("--weights", help=WEIGHTS_HELP)
    arguments = parser.parse_args()
    for module in ("skimage", "sklearn", "cv2"):
        require(module, "Making the demo's photos")
    output = arguments.output.expanduser()
    print(write_page(output, arguments.weights))
    print(f"Before and after: {output}")


def write_page(output: Path, weights: str | None) -> str:
    """Write the page for a network and return the page's verdict.

    Args:
        output: the .html file.
        weights: as `--weights`: a shipped network's name, a run's folder or a `.safetensors`.

    Raises:
        InputError: the weights are missing or corrupt.
    """
    from jaxdeblur.restoration.restorer import load_restorer

    path = resolve_weights(weights)
    network = path.stem if path.is_file() else path.name
    origin = ""
    if find_shipped(network):
        origin = ", the network shipped with jaxdeblur, which was trained on none of them"
    introduction = (
        f"Photos from scikit-image and scikit-learn with synthetic camera shake, restored by {network}{origin}.",
        "Move the slider below each photo to compare before and after. Real blur is harder than this simulation: "
        "docs/model_card.md says what to expect of real photos.",
    )
    comparisons = compare_photos(load_restorer(path))
    return write_before_after(comparisons, output, title=TITLE, introduction=introduction, network=network)


def compare_photos(restore: Callable[[np.ndarray], np.ndarray]) -> list[Comparison]:
    """Blur the demo's test photos as `PATHS` says and restore them."""
    comparisons = []
    for name, length in PATHS.items():
        photo = load_photo(PHOTOS[name][1])
        shake = dataclasses.replace(SHAKE, travel=(length, length))
        pair = blur_photo(photo, [SEED, zlib.crc32(name.encode()), 0], side=0, shake=shake)
        caption = f"camera shake of {length:g} pixels"
        comparisons.append(Comparison(name, caption, pair["blur"], restore(pair["blur"]), pair["sharp"]))
    return comparisons


if __name__ == "__main__":
    try:
        main()
    except (InputError, OSError) as error:
        sys.exit(f"error: {error}")
