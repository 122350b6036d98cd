"""Create the demo's data set: photos that ship with scikit-image and scikit-learn, with synthetic blur.

    python tools/make_demo_data.py --output data/demo

In GOPRO_Large's layout: each photo is a sequence, and no photo is in both `train` and `test`. Sharp images are windows
of the photos, unchanged; blurry ones have simulated hand shake, parallax and, in part, sensor noise
(`jaxdeblur/synthesis/exposure_sampling.py`). The shipped network was trained on none of these photos.
"""

import argparse
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
from jaxdeblur.synthesis.dataset_writer import claim_output
from jaxdeblur.synthesis.moving_patches import RegionRules

# Names of scikit-image's photos, files of scikit-learn's. Of scikit-image's `cat` and `chelsea`, the same photo, and of
# its stereo pair, one each.
PHOTOS = {
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
SIDE = 240  # pixels; leaves 30 on each side of the smallest photo, 300 pixels high, for the camera's motion
SHAKE = Shake(time_samples=41, travel=(3.0, 15.0), jitter=0.3, pull=0.3, jerks=0.1)
RELIEF = (0.0, 0.5)  # see `DepthRules`
CAPTURE = CaptureRules(
    shot_noise=(0.0005, 0.005), read_noise=(0.0002, 0.001), noise_blur=(0.0, 0.7), noise_free_share=0.5
)
FRAMES = {"train": 40, "test": 12}  # per photo
SEED = 0


def load_photo(source: str) -> np.ndarray:
    """Return a photo of scikit-image or scikit-learn by its name, uint8 RGB (H, W, 3)."""
    if source.endswith(".jpg"):
        import sklearn.datasets

        return sklearn.datasets.load_sample_image(source)
    import skimage.data

    image = getattr(skimage.data, source)()
    image = image[0] if isinstance(image, tuple) else image  # the left one of a stereo pair
    return np.asarray(Image.fromarray(image).convert("RGB"))


def make_sequence(name: str, folder: Path) -> None:
    """Write the pairs of one photo, `blur/<frame>.png` and `sharp/<frame>.png`; deterministic."""
    split, source = PHOTOS[name]
    photo = load_photo(source)
    for variant in ("blur", "sharp"):
        (folder / split / name / variant).mkdir(parents=True)
    for frame in range(1, FRAMES[split] + 1):
        pair = blur_photo(photo, [SEED, zlib.crc32(name.encode()), frame], side=SIDE)
        for variant, image in pair.items():
            Image.fromarray(image).save(folder / split / name / variant / f"{frame:06d}.png", compress_level=1)


def blur_photo(photo: np.ndarray, seed: Sequence[int], *, side: int, shake: Shake = SHAKE) -> dict[str, np.ndarray]:
    """Return `blur` and `sharp` of one exposure of a photo, uint8 (height, width, 3).

    Args:
        photo: (H, W, 3) uint8.
        seed: of the exposure.
        side: of a random square window in pixels; 0: the whole photo without its borders.
        shake: distribution of the camera's motion.
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
    """Create the data set atomically; an existing folder is complete and unchanged."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True, help="folder to create")
    output = parser.parse_args().output
    if output.exists():
        print(f"{output} already exists; remove it to create it again.")
        return
    for module in ("skimage", "sklearn", "cv2"):
        require(module, "Creating the demo's photos")
    temporary = claim_output(output)
    with ThreadPoolExecutor() as pool:  # OpenCV releases the GIL while resampling
        results = pool.map(lambda name: make_sequence(name, temporary), PHOTOS)
        for _ in tqdm(results, total=len(PHOTOS), desc="Blurring photos", unit="photo"):
            pass
    temporary.replace(output)


if __name__ == "__main__":
    try:
        main()
    except (InputError, OSError) as error:
        sys.exit(f"error: {error}")
