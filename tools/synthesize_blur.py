"""Make training pairs in GOPRO_Large's layout, from consecutive sharp frames or from sharp photographs.

    python tools/synthesize_blur.py frames --input my_frames --output data/made --window 11
    python tools/synthesize_blur.py photos --input my_photographs --output data/made --exposures 4

frames: every folder of images and every video below --input is a scene; windows of consecutive frames are averaged
        (`jaxdeblur/synthesis/frame_averaging.py`).
photos: every image below --input is a scene; a camera shakes, regions move (`jaxdeblur/synthesis/exposure.py`).

Writes `{train,validation,test}/<scene>/{blur,blur_gamma,sharp}/<number>.png` and `made.json`, which says how. No scene
is in two splits; two pictures of one thing are two scenes, so name such ones with --test or --validation, or keep one.
"""

import argparse
import signal
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

import numpy as np
from blur_options import SHARES, capture_rules, check_arguments, motion_rules, parse_arguments

from jaxdeblur.errors import InputError
from jaxdeblur.images.decode import read_image
from jaxdeblur.runtime.optional_packages import require
from jaxdeblur.synthesis.dataset_writer import Facts, Pairs, clear_output, write_data_set
from jaxdeblur.synthesis.frame_averaging import average_frames, read_frames, take_windows
from jaxdeblur.synthesis.scenes import SPLITS, Scene, assign_splits, find_photographs, find_sequences

VISIBLE_STEP = 2.0  # pixels between two instants, above which an edge shows as several


def expose_photographs(arguments: argparse.Namespace) -> Callable[[Scene, Facts], Pairs]:
    """Return the function that makes the pairs of one photograph and notes facts about them.

    Raises:
        InputError: an argument is out of its range, or OpenCV is not installed.
    """
    require("cv2", "Blurring photographs")
    from jaxdeblur.synthesis.exposure import Exposure, Sensor
    from jaxdeblur.synthesis.exposure_sampling import describe_exposure, draw_exposure, make_exposure
    from jaxdeblur.synthesis.object_outlines import find_outlines
    from jaxdeblur.synthesis.parallax import DepthRules
    from jaxdeblur.synthesis.warping import largest_step

    shake, regions, objects = motion_rules(arguments)
    rules = capture_rules(arguments)
    depth = DepthRules(tuple(arguments.depth_relief))
    sensor = Sensor(arguments.highlight_gain, arguments.highlight_threshold, linear_noise=arguments.linear_noise)
    exposure = Exposure(shake, regions, sensor, tuple(arguments.variants), depth, objects)

    def make(scene: Scene, facts: Facts) -> Pairs:
        facts["source"] = relative_path(scene, arguments.input)
        photo = read_image(scene.source)
        outlines = find_outlines(photo) if objects.count else None
        facts["largest_step"] = 0.0
        facts["exposures"] = []
        for number in range(arguments.exposures):
            seed = [arguments.seed, zlib.crc32(scene.name.encode()), number]
            capture, motion = draw_exposure(seed, exposure, rules, photo.shape[:2], arguments.side, outlines)
            step = largest_step(motion.cameras, motion.window, motion.regions, motion.depth) / capture.reduce_after
            facts["largest_step"] = max(facts["largest_step"], round(step, 2))
            facts["exposures"].append(describe_exposure(capture, motion))
            yield make_exposure(photo, capture, motion, exposure, arguments.side)

    return make


def average_sequences(arguments: argparse.Namespace) -> Callable[[Scene, Facts], Pairs]:
    """Return the function that makes the pairs of one sequence of frames and notes facts about them."""

    def make(scene: Scene, facts: Facts) -> Pairs:
        facts["source"] = relative_path(scene, arguments.input)
        facts["frames"] = 0

        def count() -> Iterator[np.ndarray]:
            for frame in read_frames(scene.source):
                facts["frames"] += 1
                yield frame

        last = 0
        for window in take_windows(count(), arguments.window, arguments.stride):
            last = facts["frames"]
            yield average_frames(window, arguments.variants)
        if not last:
            raise InputError(f"{facts['frames']} frame(s), too few for a window of {arguments.window}")
        facts["frames_left_over"] = facts["frames"] - last

    return make


def make_data_set(arguments: argparse.Namespace) -> dict:
    """Make the data set, and return what its `made.json` says.

    Raises:
        InputError: something is wrong with the arguments or the input; nothing is left that looks finished.
    """
    check_arguments(arguments)
    clear_output(arguments.output)
    if arguments.kind == "photos":
        make, found = expose_photographs(arguments), find_photographs(arguments.input)
        total = len(found) * arguments.exposures
    else:
        make, found = average_sequences(arguments), find_sequences(arguments.input, arguments.window)
        total = None  # how many frames a video has is known at its end
        if not all(isinstance(scene.source, tuple) for scene in found):
            require("av", "Reading videos")
        else:
            total = sum((len(scene.source) - arguments.window) // arguments.stride + 1 for scene in found)
    splits = draw_splits(arguments, [scene.name for scene in found])
    parameters = {name: value for name, value in vars(arguments).items() if name not in ("input", "output", "workers")}
    about = {"input": arguments.input.resolve().name, "parameters": parameters}
    return write_data_set(arguments.output, found, splits, make, about, total=total, workers=arguments.workers)


def relative_path(scene: Scene, folder: Path) -> str:
    """Return where a scene came from, below the input folder."""
    source = scene.source if isinstance(scene.source, Path) else scene.source[0].parent
    return source.relative_to(folder).as_posix()


def draw_splits(arguments: argparse.Namespace, names: list[str]) -> dict[str, str]:
    """Return the split of each scene, by the names and shares of the command line."""
    chosen, shares = {}, {}
    for split, usual in SHARES.items():
        named, share = getattr(arguments, split), getattr(arguments, f"{split}_share")
        if named:
            chosen[split] = named
        else:
            shares[split] = usual if share is None else share
    return assign_splits(names, chosen, shares, arguments.seed)


def describe(output: Path, made: dict) -> None:
    """Print what was made, and what its maker should know about it."""
    for split in SPLITS:
        count = sum(noted["pairs"] for noted in made[split].values())
        print(f"{output / split}: {count} pairs of {len(made[split])} scenes")
    facts = {name: noted for split in SPLITS for name, noted in made[split].items()}
    for name, noted in facts.items():
        if noted.get("frames_left_over"):
            print(f"{name}: the last {noted['frames_left_over']} of {noted['frames']} frames fill no window")
    steps = {name: noted.get("largest_step", 0) for name, noted in facts.items()}
    worst = max(steps, key=steps.get)
    if steps[worst] > VISIBLE_STEP:
        print(
            f"{worst}: {steps[worst]} pixels between two instants, so edges may show as several; --time_samples "
            f"{2 * int(made['parameters']['time_samples'] * steps[worst] / VISIBLE_STEP / 2) + 1} or more avoids it"
        )


def stop(number: int, frame: FrameType | None) -> None:
    """End as Ctrl-C does, so that nothing half made is left."""
    raise KeyboardInterrupt


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, stop)
    try:
        parsed = parse_arguments(__doc__)
        describe(parsed.output, make_data_set(parsed))
    except (InputError, OSError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("error: interrupted; nothing was made. Run the same command again.")
