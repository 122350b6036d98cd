"""Make the demo's data set: photographs that ship inside scikit-image and scikit-learn, blurred on the spot.

    python tools/make_demo_data.py --output data/demo

Laid out like GOPRO_Large: one photograph is one sequence, and no photograph is in both `train` and `test`. The sharp
images are windows of the photographs, untouched; the blurred ones resemble hand shake, with parallax and, in part, the
noise of a sensor (`jaxdeblur/synthesis/exposure_sampling.py`). The network that ships was trained on none of these
photographs.
"""

import argparse
import shutil
import sys
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from jaxdeblur.errors import InputError
from jaxdeblur.runtime.optional_packages import require
from jaxdeblur.synthesis.camera_shake import Shake
from jaxdeblur.synthesis.capture import CaptureRules
from jaxdeblur.synthesis.moving_patches import RegionRules

# The names of scikit-image's photographs, and the files of scikit-learn's. scikit-image's `cat` is `chelsea` again, and
# its stereo pair shows one scene: one of each.
PHOTOGRAPHS = {
    "brick": ("train", "brick"),
    "camera": ("train", "camera"),
    "coffee": ("train", "coffee"),
    "coins": ("train", "coins"),
    "grass": ("train", "grass"),
    "gravel": ("train", "gravel"),
    "hubble": ("train", "hubble_deep_field"),
    "immunohistochemistry": ("train", "immunohistochemistry"),
    "rocket": ("train", "rocket"),
    "astronaut": ("test", "astronaut"),
    "chelsea": ("test", "chelsea"),
    "china": ("test", "china.jpg"),
    "flower": ("test", "flower.jpg"),
    "motorcycle": ("test", "stereo_motorcycle"),
}
SIDE = 240  # pixels; the smallest photograph, 300 pixels high, leaves 30 on each side for the camera's motion
SHAKE = Shake(time_samples=41, travel=(3.0, 15.0), jitter=0.3, pull=0.3, jerks=0.1)
RELIEF = (0.0, 0.5)  # of the scene's depth: how much further near parts shift than the middle
CAPTURE = CaptureRules(
    shot_noise=(0.0005, 0.005), read_noise=(0.0002, 0.001), noise_blur=(0.0, 0.7), noise_free_share=0.5
)
FRAMES = {"train": 40, "test": 12}  # per photograph
SEED = 0


def load_photograph(source: str) -> np.ndarray:
    """Return a photograph of scikit-image or scikit-learn, (H, W, 3) uint8 RGB, by its name in `PHOTOGRAPHS`."""
    if source.endswith(".jpg"):
        import sklearn.datasets

        return sklearn.datasets.load_sample_image(source)
    import skimage.data

    image = getattr(skimage.data, source)()
    image = image[0] if isinstance(image, tuple) else image  # of a stereo pair, the left one
    return np.asarray(Image.fromarray(image).convert("RGB"))


def make_sequence(name: str, folder: Path) -> None:
    """Write the pairs of one photograph, `blur/<frame>.png` and `sharp/<frame>.png`; the same ones every time."""
    split, source = PHOTOGRAPHS[name]
    photo = load_photograph(source)
    for variant in ("blur", "sharp"):
        (folder / split / name / variant).mkdir(parents=True)
    for frame in range(1, FRAMES[split] + 1):
        pair = blur_photograph(photo, [SEED, zlib.crc32(name.encode()), frame], side=SIDE)
        for variant, image in pair.items():
            Image.fromarray(image).save(folder / split / name / variant / f"{frame:06d}.png", compress_level=1)


def blur_photograph(
    photo: np.ndarray, seed: Sequence[int], *, side: int, shake: Shake = SHAKE
) -> dict[str, np.ndarray]:
    """Return `blur` and `sharp` of a photograph (H, W, 3), uint8, with the blur of one exposure.

    Args:
        photo: (H, W, 3) uint8.
        seed: of the exposure.
        side: of a random square window, pixels; 0: all of the photograph but its borders.
        shake: how the camera may move.
    """
    from jaxdeblur.synthesis.exposure import Exposure, Sensor
    from jaxdeblur.synthesis.exposure_sampling import draw_exposure, make_exposure
    from jaxdeblur.synthesis.parallax import DepthRules

    exposure = Exposure(
        shake, RegionRules(count=0), Sensor(linear_noise=True), variants=("blur",), depth=DepthRules(RELIEF)
    )
    capture, motion = draw_exposure(seed, exposure, CAPTURE, photo.shape[:2], side)
    return make_exposure(photo, capture, motion, exposure, side)


def main() -> None:
    """Write the data set in one piece: a folder that exists is complete, and is left as it is."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True, help="folder to make")
    output = parser.parse_args().output
    if output.exists():
        print(f"{output} is there already; remove it to make it anew.")
        return
    for module in ("skimage", "sklearn", "cv2"):
        require(module, "Making the demo's photographs")
    unfinished = output.with_name(output.name + ".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    with ThreadPoolExecutor() as pool:  # OpenCV lets other threads run while it resamples
        made = pool.map(lambda name: make_sequence(name, unfinished), PHOTOGRAPHS)
        for _ in tqdm(made, total=len(PHOTOGRAPHS), desc="Blurring photographs", unit="photo"):
            pass
    unfinished.replace(output)


if __name__ == "__main__":
    try:
        main()
    except (InputError, OSError) as error:
        sys.exit(f"error: {error}")
