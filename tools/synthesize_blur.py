"""Make training pairs in GOPRO_Large's layout, from consecutive sharp frames or from sharp photographs.

    python tools/synthesize_blur.py frames --input my_frames --output data/made --window 11
    python tools/synthesize_blur.py photos --input my_photographs --output data/made --exposures 4

frames: every folder of images and every video below --input is a scene; windows of consecutive frames are averaged
        (`jaxdeblur/data/frames.py`).
photos: every image below --input is a scene; a camera shakes, regions move (`jaxdeblur/data/synthetic.py`).

Writes `{train,validation,test}/<scene>/{blur,blur_gamma,sharp}/<number>.png` and `made.json`, which says how. No scene
is in two splits; two pictures of one thing are two scenes, so name such ones with --test or --validation, or keep one.
"""

import argparse
import dataclasses
import os
import signal
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

import numpy as np

from jaxdeblur.data.frames import average_frames, read_frames, take_windows
from jaxdeblur.data.images import read_image
from jaxdeblur.data.made_pairs import Facts, Pairs, clear_output, write_data_set
from jaxdeblur.data.regions import RegionRules
from jaxdeblur.data.scenes import SPLITS, Scene, assign_splits, find_photographs, find_sequences
from jaxdeblur.data.trajectories import Shake
from jaxdeblur.errors import InputError

VARIANTS = ("blur", "blur_gamma")
SHARES = {"validation": 0.1, "test": 0.2}  # of the scenes
VISIBLE_STEP = 2.0  # pixels between two instants, above which an edge shows as several


def parse_arguments() -> argparse.Namespace:
    """Return the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = parser.add_subparsers(dest="kind", required=True)
    frames = kinds.add_parser("frames", help="average windows of consecutive sharp frames")
    frames.add_argument("--window", type=int, default=11, help="frames per exposure; odd (%(default)s)")
    frames.add_argument("--stride", type=int, help="frames from one window to the next (as many as in a window)")
    photos = kinds.add_parser("photos", help="shake a camera in front of sharp photographs")
    photos.add_argument("--exposures", type=int, default=1, help="pairs per photograph (%(default)s)")
    photos.add_argument("--side", type=int, default=0, help="side of random windows in pixels; 0: all of it")
    shake, rules = Shake(), RegionRules()
    _add_range(photos, "travel", shake.travel, "path length of the image's centre in pixels, least and greatest")
    _add_number(photos, "time_samples", shake.time_samples, "instants per exposure; odd")
    _add_number(photos, "roll", shake.roll, "standard deviation of the turn about the optical axis in degrees")
    _add_number(photos, "zoom", shake.zoom, "standard deviation of the relative change of distance")
    _add_number(photos, "focal", shake.focal, "focal length relative to the longer side")
    _add_number(photos, "jitter", shake.jitter, "random change of velocity, relative to it; 0: no change")
    _add_number(photos, "pull", shake.pull, "acceleration back to the start, path lengths per squared exposure")
    _add_number(photos, "jerks", shake.jerks, "mean number of sudden jerks per exposure")
    _add_number(photos, "regions", 1, "regions that move by themselves")
    _add_range(photos, "region_radius", rules.radius, "radius relative to the shorter side, least and greatest")
    _add_number(photos, "region_edge", rules.edge, "width of a region's soft edge in pixels")
    _add_range(photos, "region_travel", rules.travel, "a region's own path length in pixels, least and greatest")
    _add_number(photos, "highlight_gain", 3.0, "light behind a white pixel, relative to what it shows; 1: no more")
    _add_number(photos, "highlight_threshold", 250, "greatest darkest channel of a pixel that gains nothing")
    _add_number(photos, "shot_noise", 0.01, "standard deviation of photon noise where the sensor saturates (at 1)")
    _add_number(photos, "read_noise", 0.001, "standard deviation of the noise without light, relative to saturation")
    for command in (frames, photos):
        command.add_argument("--input", type=Path, required=True, help="folder to read")
        command.add_argument("--output", type=Path, required=True, help="folder to make")
        command.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS), help="blur to write")
        for split, share in SHARES.items():
            choice = command.add_mutually_exclusive_group()
            choice.add_argument(f"--{split}", nargs="+", metavar="SCENE", help=f"scenes of the {split} split")
            choice.add_argument(f"--{split}_share", type=float, help=f"or its share of the scenes, drawn ({share})")
        _add_number(command, "seed", 0, "seed of all that is drawn")
        command.add_argument("--workers", type=int, default=os.cpu_count(), help="scenes made at once (%(default)s)")
    return parser.parse_args()


def _add_number(parser: argparse.ArgumentParser, name: str, default: float, words: str) -> None:
    parser.add_argument(f"--{name}", type=type(default), default=default, help=f"{words} (%(default)s)")


def _add_range(parser: argparse.ArgumentParser, name: str, default: tuple[float, float], words: str) -> None:
    shown = f"{words} ({default[0]:g} {default[1]:g})"
    parser.add_argument(f"--{name}", type=float, nargs=2, default=default, metavar=("LEAST", "MOST"), help=shown)


def expose_photographs(arguments: argparse.Namespace) -> Callable[[Scene, Facts], Pairs]:
    """Return the function that makes the pairs of one photograph and notes facts about them.

    Raises:
        InputError: an argument is out of its range, or OpenCV is not installed.
    """
    try:
        from jaxdeblur.data.synthetic import Exposure, Sensor, make_pair, sample_motion
        from jaxdeblur.data.warping import largest_step
    except ModuleNotFoundError as error:
        raise InputError(f"{error}; photos needs OpenCV: pip install '.[made-blur]'") from error

    given = vars(arguments)
    shake = Shake(**{f.name: _fixed(given[f.name]) for f in dataclasses.fields(Shake)})
    sensor = Sensor(**{f.name: given[f.name] for f in dataclasses.fields(Sensor)})
    radius, travel = _fixed(arguments.region_radius), _fixed(arguments.region_travel)
    rules = RegionRules(arguments.regions, radius, arguments.region_edge, travel)
    exposure = Exposure(shake, rules, sensor, tuple(arguments.variants))

    def make(scene: Scene, facts: Facts) -> Pairs:
        facts["source"] = relative_path(scene, arguments.input)
        photo = read_image(scene.source)
        facts["largest_step"] = 0.0
        for number in range(arguments.exposures):
            rng = np.random.default_rng([arguments.seed, zlib.crc32(scene.name.encode()), number])
            motion = sample_motion(rng, exposure, photo.shape[:2], arguments.side)
            step = largest_step(motion.cameras, motion.window, motion.regions)
            facts["largest_step"] = max(facts["largest_step"], round(step, 2))
            yield make_pair(photo, motion, exposure)

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
        if all(isinstance(scene.source, tuple) for scene in found):
            total = sum((len(scene.source) - arguments.window) // arguments.stride + 1 for scene in found)
    splits = draw_splits(arguments, [scene.name for scene in found])
    parameters = {name: value for name, value in vars(arguments).items() if name not in ("input", "output", "workers")}
    about = {"input": arguments.input.resolve().name, "parameters": parameters}
    return write_data_set(arguments.output, found, splits, make, about, total=total, workers=arguments.workers)


def check_arguments(arguments: argparse.Namespace) -> None:
    """Raise InputError for an output inside the input and for numbers out of range; settle --stride."""
    output = arguments.output
    if arguments.input.resolve() in output.resolve().parents:
        raise InputError(f"{output}: lies inside --input, where it would be read the next time. Choose another place.")
    if arguments.kind == "frames":
        if arguments.window < 1 or arguments.window % 2 == 0:
            raise InputError(f"--window {arguments.window}: expected an odd number, so that one frame is the middle.")
        if arguments.stride is None:
            arguments.stride = arguments.window
    for name, least in (("stride", 1), ("exposures", 1), ("side", 0), ("workers", 1), ("seed", 0)):
        if getattr(arguments, name, least) < least:
            raise InputError(f"--{name} {getattr(arguments, name)}: expected at least {least}.")


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


def _fixed(value: float | list[float]) -> float | tuple[float, ...]:
    return tuple(value) if isinstance(value, list) else value


def stop(number: int, frame: FrameType | None) -> None:
    """End as Ctrl-C does, so that nothing half made is left."""
    raise KeyboardInterrupt


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, stop)
    try:
        parsed = parse_arguments()
        describe(parsed.output, make_data_set(parsed))
    except (InputError, OSError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("error: interrupted; nothing was made. Run the same command again.")
