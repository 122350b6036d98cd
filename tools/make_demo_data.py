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
import skimage.data
import sklearn.datasets
from PIL import Image
from tqdm import tqdm

from jaxdeblur.data.regions import RegionRules
from jaxdeblur.data.synthetic import Exposure, Sensor, make_pair, sample_motion
from jaxdeblur.data.trajectories import Shake
from jaxdeblur.errors import InputError

# scikit-image's `cat` is the photograph `chelsea` again, and its stereo pair shows one scene: one of each.
PHOTOGRAPHS = {
    "astronaut": ("train", skimage.data.astronaut),
    "brick": ("train", skimage.data.brick),
    "camera": ("train", skimage.data.camera),
    "coffee": ("train", skimage.data.coffee),
    "coins": ("train", skimage.data.coins),
    "flower": ("train", lambda: sklearn.datasets.load_sample_image("flower.jpg")),
    "grass": ("train", skimage.data.grass),
    "gravel": ("train", skimage.data.gravel),
    "hubble": ("train", skimage.data.hubble_deep_field),
    "immunohistochemistry": ("train", skimage.data.immunohistochemistry),
    "rocket": ("train", skimage.data.rocket),
    "chelsea": ("test", skimage.data.chelsea),
    "china": ("test", lambda: sklearn.datasets.load_sample_image("china.jpg")),
    "motorcycle": ("test", lambda: skimage.data.stereo_motorcycle()[0]),
}
SIDE = 240  # pixels; the smallest photograph, 300 pixels high, leaves 30 for the camera's motion
# Only the camera moves, and nothing but motion is to be undone: no noise, no bright lights.
SHAKE = Shake(time_samples=25, travel=(2.0, 8.0), roll=1.0, zoom=0.0, jitter=1.0, pull=0.0, jerks=0.0)
EXPOSURE = Exposure(SHAKE, RegionRules(count=0), Sensor(), variants=("blur",))
FRAMES = {"train": 40, "test": 20}  # per photograph
SEED = 0


def make_sequence(name: str, folder: Path) -> None:
    """Write the pairs of one photograph, `blur/<frame>.png` and `sharp/<frame>.png`; the same ones every time."""
    split, load = PHOTOGRAPHS[name]
    photo = np.asarray(Image.fromarray(np.asarray(load())).convert("RGB"))
    rng = np.random.default_rng([SEED, zlib.crc32(name.encode())])
    for variant in ("blur", "sharp"):
        (folder / split / name / variant).mkdir(parents=True)
    for frame in range(1, FRAMES[split] + 1):
        motion = sample_motion(rng, EXPOSURE, photo.shape[:2], SIDE)
        for variant, image in make_pair(photo, motion, EXPOSURE).items():
            Image.fromarray(image).save(folder / split / name / variant / f"{frame:06d}.png", compress_level=1)


def main() -> None:
    """Write the data set in one piece: a folder that exists is complete, and is left as it is."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True, help="folder to make")
    output = parser.parse_args().output
    if output.exists():
        print(f"{output} is there already; remove it to make it anew.")
        return
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
