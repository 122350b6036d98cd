"""Create training pairs in GOPRO_Large's layout, from consecutive sharp frames or from sharp photos.

    jaxdeblur synthesize frames --input my_frames --output data/synthetic --window 11
    jaxdeblur synthesize photos --input my_photos --output data/synthetic --exposures 4

frames: every folder of images and every video below --input is a scene; windows of consecutive frames are averaged.
photos: every image below --input is a scene; the blur of a shaking camera and moving regions is simulated.

Writes `{train,validation,test}/<scene>/{blur,blur_gamma,sharp}/<number>.png` and `made.json`, which records the
options. No scene is in two splits. Two photos of one subject are two scenes, so assign such ones with --test or
--validation, or keep only one.
"""

import argparse
import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxdeblur.console import interrupt_on_sigterm
from jaxdeblur.errors import InputError
from jaxdeblur.images.decode import read_image
from jaxdeblur.runtime.optional_packages import require
from jaxdeblur.synthesis.dataset_writer import Pairs, SceneFacts, claim_output, write_data_set
from jaxdeblur.synthesis.frame_averaging import average_frames, read_frames, take_windows
from jaxdeblur.synthesis.options import SHARES, capture_rules, check_arguments, make_parser, motion_rules
from jaxdeblur.synthesis.scenes import Scene, find_photos, find_sequences
from jaxdeblur.synthesis.splits import SPLITS, assign_splits

VISIBLE_STEP = 2.0  # pixels between two instants, above which an edge appears as several

MakePairs = Callable[[Scene, SceneFacts], Pairs]


def expose_photos(arguments: argparse.Namespace) -> MakePairs:
    """Return the function that makes the pairs of one photo and records facts about them.

    Raises:
        InputError: an option is out of range, or OpenCV is not installed.
    """
    require("cv2", "Blurring photos")
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

    def make(scene: Scene, facts: SceneFacts) -> Pairs:
        photo = read_image(scene.path)
        outlines = find_outlines(photo) if objects.count else None
        facts |= {"source": scene.path.relative_to(arguments.input).as_posix(), "largest_step": 0.0, "exposures": []}
        for number in range(arguments.exposures):
            seed = [arguments.seed, zlib.crc32(scene.name.encode()), number]
            capture, motion = draw_exposure(seed, exposure, rules, photo.shape[:2], arguments.side, outlines)
            step = largest_step(motion.cameras, motion.window, motion.regions, motion.depth) / capture.reduce_after
            facts["largest_step"] = max(facts["largest_step"], round(step, 2))
            facts["exposures"].append(describe_exposure(capture, motion))
            yield make_exposure(photo, capture, motion, exposure, arguments.side)

    return make


def average_sequences(arguments: argparse.Namespace) -> MakePairs:
    """Return the function that makes the pairs of one sequence of frames and records facts about them."""

    def make(scene: Scene, facts: SceneFacts) -> Pairs:
        facts |= {"source": scene.path.relative_to(arguments.input).as_posix(), "frames": 0}

        def counted() -> Iterator[np.ndarray]:
            for frame in read_frames(scene.source):
                facts["frames"] += 1
                yield frame

        last_used = 0
        for window in take_windows(counted(), arguments.window, arguments.stride):
            last_used = facts["frames"]
            yield average_frames(window, arguments.variants)
        if not last_used:
            raise InputError(
                f"{facts['frames']} frame(s), too few for a window of {arguments.window}", code="too-few-frames"
            )
        facts["frames_left_over"] = facts["frames"] - last_used

    return make


def make_data_set(arguments: argparse.Namespace) -> dict[str, Any]:
    """Create the data set and return the content of its `made.json`.

    Raises:
        InputError: an option or the input is wrong; no complete-looking folder is left.
    """
    check_arguments(arguments)
    claim_output(arguments.output)
    total: int | None
    if arguments.kind == "photos":
        make, scenes = expose_photos(arguments), find_photos(arguments.input)
        total = len(scenes) * arguments.exposures
    else:
        make, scenes = average_sequences(arguments), find_sequences(arguments.input, arguments.window)
        lengths = [len(scene.source) for scene in scenes if isinstance(scene.source, tuple)]
        total = sum((length - arguments.window) // arguments.stride + 1 for length in lengths)
        if len(lengths) < len(scenes):
            require("av", "Reading videos")
            total = None  # a video's number of frames is unknown until its end
    splits = _assign_splits(arguments, [scene.name for scene in scenes])
    parameters = {name: value for name, value in vars(arguments).items() if name not in ("input", "output", "workers")}
    about = {"input": arguments.input.resolve().name, "parameters": parameters}
    return write_data_set(arguments.output, scenes, splits, make, about, total=total, workers=arguments.workers)


def _assign_splits(arguments: argparse.Namespace, names: list[str]) -> dict[str, str]:
    """Return the split of each scene, by the names and shares on the command line."""
    named: dict[str, list[str]] = {}
    shares: dict[str, float] = {}
    for split, default in SHARES.items():
        scenes, share = getattr(arguments, split), getattr(arguments, f"{split}_share")
        if scenes:
            named[split] = scenes
        else:
            shares[split] = default if share is None else share
    return assign_splits(names, named, shares, arguments.seed)


def describe(output: Path, metadata: dict[str, Any]) -> None:
    """Print what was created, with hints."""
    for split in SPLITS:
        count = sum(facts["pairs"] for facts in metadata[split].values())
        print(f"{output / split}: {count} pairs of {len(metadata[split])} scenes")
    scenes = {name: facts for split in SPLITS for name, facts in metadata[split].items()}
    for name, facts in scenes.items():
        if facts.get("frames_left_over"):
            print(f"{name}: the last {facts['frames_left_over']} of {facts['frames']} frames fill no window")
    steps = {name: facts.get("largest_step", 0) for name, facts in scenes.items()}
    worst = max(steps, key=lambda name: steps[name])
    if steps[worst] > VISIBLE_STEP:
        samples = 2 * int(metadata["parameters"]["time_samples"] * steps[worst] / VISIBLE_STEP / 2) + 1
        print(
            f"{worst}: {steps[worst]} pixels between two instants, so edges may appear several times; --time_samples "
            f"{samples} or more avoids this"
        )


def main(arguments: Sequence[str] | None = None, *, prog: str) -> None:
    """Create a data set; exit with a message on user errors."""
    options = make_parser(prog, __doc__ or "").parse_args(arguments)
    try:
        with interrupt_on_sigterm():
            describe(options.output, make_data_set(options))
    except (InputError, OSError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("error: interrupted; nothing was created. Run the same command again.")
