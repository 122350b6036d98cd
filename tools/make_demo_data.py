"""Make the demo's data set: photographs that ship inside scikit-image and scikit-learn, blurred on the spot.

    python tools/make_demo_data.py --output data/demo

Laid out like GOPRO_Large: one photograph is one sequence, and no photograph is in both `train` and `test`. The sharp
images are windows of the photographs, untouched; the blurred ones follow `jaxdeblur/data/synthetic.py`.
"""

import argparse
import shutil
import sys
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from jaxdeblur.data.regions import RegionRules
from jaxdeblur.data.trajectories import Shake
from jaxdeblur.errors import InputError
from jaxdeblur.extras import require

# The names of scikit-image's photographs, and the files of scikit-learn's. scikit-image's `cat` is `chelsea` again, and
# its stereo pair shows one scene: one of each.
PHOTOGRAPHS = {
    "astronaut": ("train", "astronaut"),
    "brick": ("train", "brick"),
    "camera": ("train", "camera"),
    "coffee": ("train", "coffee"),
    "coins": ("train", "coins"),
    "flower": ("train", "flower.jpg"),
    "grass": ("train", "grass"),
    "gravel": ("train", "gravel"),
    "hubble": ("train", "hubble_deep_field"),
    "immunohistochemistry": ("train", "immunohistochemistry"),
    "rocket": ("train", "rocket"),
    "chelsea": ("test", "chelsea"),
    "china": ("test", "china.jpg"),
    "motorcycle": ("test", "stereo_motorcycle"),
}
SIDE = 240  # pixels; the smallest photograph, 300 pixels high, leaves 30 for the camera's motion
# Only the camera moves, and nothing but motion is to be undone: no noise, no bright lights.
SHAKE = Shake(time_samples=25, travel=(2.0, 8.0), roll=1.0, zoom=0.0, jitter=1.0, pull=0.0, jerks=0.0)
FRAMES = {"train": 40, "test": 20}  # per photograph
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
    from jaxdeblur.data.synthetic import Exposure, Sensor, make_pair, sample_motion

    exposure = Exposure(SHAKE, RegionRules(count=0), Sensor(), variants=("blur",))
    split, source = PHOTOGRAPHS[name]
    photo = load_photograph(source)
    rng = np.random.default_rng([SEED, zlib.crc32(name.encode())])
    for variant in ("blur", "sharp"):
        (folder / split / name / variant).mkdir(parents=True)
    for frame in range(1, FRAMES[split] + 1):
        motion = sample_motion(rng, exposure, photo.shape[:2], SIDE)
        for variant, image in make_pair(photo, motion, exposure).items():
            Image.fromarray(image).save(folder / split / name / variant / f"{frame:06d}.png", compress_level=1)


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
