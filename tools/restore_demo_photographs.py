"""Blur the demo's test photographs, restore them with the network that ships, and write a page of before and after.

    python tools/restore_demo_photographs.py --output runs/demo-photographs/before_after.html

The photographs ship inside scikit-image and scikit-learn; the network was trained on none of them. Each is blurred
whole, by shakes of the camera of different lengths.
"""

import argparse
import dataclasses
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from make_demo_data import PHOTOGRAPHS, SEED, SHAKE, blur_photograph, load_photograph

from jaxdeblur.errors import InputError
from jaxdeblur.report.before_after import Comparison, write_before_after
from jaxdeblur.runtime.optional_packages import require
from jaxdeblur.weights.pretrained.catalogue import WEIGHTS_HELP, find_shipped, resolve_weights

# Length of the camera's path in the image of each test photograph, pixels.
PATHS = {"astronaut": 8.0, "chelsea": 5.0, "china": 4.0, "flower": 10.0, "motorcycle": 12.0}
TITLE = "Photographs before and after"


def main() -> None:
    """Write the page, and print where it is and what it says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="the .html file; one that exists is replaced")
    parser.add_argument("--weights", help=WEIGHTS_HELP)
    arguments = parser.parse_args()
    for module in ("skimage", "sklearn", "cv2"):
        require(module, "Making the demo's photographs")
    output = arguments.output.expanduser()
    print(write_page(output, arguments.weights))
    print(f"Before and after: {output}")


def write_page(output: Path, weights: str | None) -> str:
    """Write the page with a network, as `--weights` names it, and return the page's verdict.

    Raises:
        InputError: there are no such weights.
    """
    from jaxdeblur.restoration.restorer import load_restorer

    path = resolve_weights(weights)
    network = path.stem if path.is_file() else path.name
    origin = ""
    if find_shipped(network):
        origin = ", the network that ships with jaxdeblur, which was trained on none of them"
    introduction = (
        f"Photographs of scikit-image and scikit-learn, blurred as by an unsteady hand, restored by {network}{origin}.",
        "Below each photograph, move the border to compare before and after. Cameras blur in harder ways than this "
        "simulation: docs/model_card.md says what to expect of real photographs.",
    )
    comparisons = compare_photographs(load_restorer(path))
    return write_before_after(comparisons, output, title=TITLE, introduction=introduction, network=network)


def compare_photographs(restore: Callable[[np.ndarray], np.ndarray]) -> list[Comparison]:
    """Return the demo's test photographs, each blurred as `PATHS` says, as `restore` restores them."""
    comparisons = []
    for name, length in PATHS.items():
        photo = load_photograph(PHOTOGRAPHS[name][1])
        shake = dataclasses.replace(SHAKE, travel=(length, length))
        pair = blur_photograph(photo, [SEED, zlib.crc32(name.encode()), 0], side=0, shake=shake)
        words = f"shaken along {length:g} pixels"
        comparisons.append(Comparison(name, words, pair["blur"], restore(pair["blur"]), pair["sharp"]))
    return comparisons


if __name__ == "__main__":
    try:
        main()
    except (InputError, OSError) as error:
        sys.exit(f"error: {error}")
