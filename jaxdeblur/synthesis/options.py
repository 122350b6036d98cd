"""Command-line options of `jaxdeblur synthesize`."""

import argparse
import dataclasses
import os
from pathlib import Path
from typing import Any

from jaxdeblur.errors import InputError
from jaxdeblur.synthesis.camera_shake import Shake
from jaxdeblur.synthesis.capture import CaptureRules
from jaxdeblur.synthesis.moving_patches import ObjectRules, RegionRules
from jaxdeblur.synthesis.ranges import Range

VARIANTS = ("blur", "blur_gamma")
SHARES = {"validation": 0.1, "test": 0.2}  # of the scenes


def make_parser(prog: str, description: str) -> argparse.ArgumentParser:
    """Return the parser. A range is a tuple of two numbers, or one number where one was given."""
    parser = argparse.ArgumentParser(
        prog=prog, description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    kinds = parser.add_subparsers(dest="kind", required=True)
    frames = kinds.add_parser("frames", help="average windows of consecutive sharp frames")
    frames.add_argument("--window", type=int, default=11, help="frames per exposure; odd (%(default)s)")
    frames.add_argument("--stride", type=int, help="frames from one window to the next (default: the window)")
    photos = kinds.add_parser("photos", help="simulate camera shake on sharp photos")
    photos.add_argument("--exposures", type=int, default=1, help="pairs per photo (%(default)s)")
    photos.add_argument("--side", type=int, default=0, help="side of random windows in pixels; 0: the whole photo")
    _add_motion(photos)
    _add_capture(photos)
    for command in (frames, photos):
        command.add_argument("--input", type=Path, required=True, help="folder to read")
        command.add_argument("--output", type=Path, required=True, help="folder to create")
        command.add_argument(
            "--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS), help="blur variants to write"
        )
        for split, share in SHARES.items():
            choice = command.add_mutually_exclusive_group()
            choice.add_argument(f"--{split}", nargs="+", metavar="SCENE", help=f"scenes of the {split} split")
            choice.add_argument(
                f"--{split}_share", type=float, help=f"or its share of the scenes, drawn at random ({share})"
            )
        _add_number(command, "seed", 0, "seed of all randomness")
        command.add_argument(
            "--workers", type=int, default=os.cpu_count(), help="scenes processed at once (%(default)s)"
        )
    return parser


def _add_motion(photos: argparse.ArgumentParser) -> None:
    shake, rules = Shake(), RegionRules()
    _add_range(photos, "travel", shake.travel, "path length of the image's centre in pixels")
    photos.add_argument(
        "--log_travel", action="store_true", help="draw path lengths log-uniformly (default: uniformly)"
    )
    _add_number(photos, "time_samples", shake.time_samples, "instants per exposure; odd")
    _add_number(photos, "roll", shake.roll, "standard deviation of the rotation about the optical axis in degrees")
    _add_number(photos, "zoom", shake.zoom, "standard deviation of the relative change of distance")
    _add_number(photos, "focal", shake.focal, "focal length relative to the longer side")
    _add_number(photos, "jitter", shake.jitter, "random change of velocity, relative to it; 0: no change")
    _add_number(photos, "pull", shake.pull, "acceleration back to the start, path lengths per squared exposure")
    _add_number(photos, "jerks", shake.jerks, "mean number of sudden jerks per exposure")
    _add_number(photos, "regions", 1, "independently moving regions")
    _add_range(photos, "region_radius", rules.radius, "radius relative to the shorter side")
    _add_number(photos, "region_edge", rules.edge, "width of a region's soft edge in pixels")
    _add_range(
        photos, "region_travel", rules.travel, "path length of a region in pixels, relative to the camera's motion"
    )
    objects = ObjectRules()
    _add_number(photos, "objects", objects.count, "maximum number of moving objects segmented from the photo; 0: none")
    _add_range(photos, "object_radius", objects.radius, "of a disc of an object's area, relative to the shorter side")
    _add_range(
        photos, "object_travel", objects.travel, "path length of an object in pixels, relative to the camera's motion"
    )
    _add_number(photos, "object_turn", objects.turn, "standard deviation of an object's rotation in degrees")
    _add_number(photos, "object_growth", objects.growth, "standard deviation of an object's relative change of size")
    _add_range(photos, "depth_relief", (0.0, 0.0), "how much further the nearest parts shift than the middle, 0 to 1")


def _add_capture(photos: argparse.ArgumentParser) -> None:
    rules = CaptureRules()
    _add_number(photos, "still_share", rules.still_share, "share of exposures in which nothing moves")
    _add_range(photos, "reduce", rules.reduce, "factor by which a photo is downscaled before blurring")
    _add_range(photos, "reduce_after", rules.reduce_after, "factor by which a pair is downscaled after blurring")
    _add_number(photos, "highlight_gain", 3.0, "light of a white pixel relative to its value; 1: no gain")
    _add_number(photos, "highlight_threshold", 250, "largest value of a pixel's darkest channel without gain")
    for name, default, description in (
        ("shot_noise", 0.01, "standard deviation of photon noise where the sensor saturates (at 1)"),
        ("read_noise", 0.001, "standard deviation of the noise without light, relative to saturation"),
    ):
        text = f"{description}; two values: range to draw from ({default})"
        photos.add_argument(f"--{name}", type=float, nargs="+", default=default, metavar="STD", help=text)
    _add_range(photos, "noise_blur", rules.noise_blur, "smoothing of the noise: standard deviation in pixels")
    photos.add_argument(
        "--linear_noise", action="store_true", help="add noise in linear light (default: in the averaged domain)"
    )
    _add_number(photos, "noise_free_share", rules.noise_free_share, "share of exposures without noise")
    _add_range(photos, "jpeg_quality", rules.jpeg_quality, "JPEG quality of compressed exposures")
    _add_number(photos, "jpeg_share", rules.jpeg_share, "share of exposures whose blurred image is compressed as JPEG")
    _add_number(
        photos, "domain_mix", rules.domain_mix, "share of exposures averaged in linear light, with --variants blur"
    )


def _add_number(parser: argparse.ArgumentParser, name: str, default: float, description: str) -> None:
    parser.add_argument(f"--{name}", type=type(default), default=default, help=f"{description} (%(default)s)")


def _add_range(parser: argparse.ArgumentParser, name: str, default: Range, description: str) -> None:
    text = f"{description}, smallest and largest ({default[0]:g} {default[1]:g})"
    parser.add_argument(f"--{name}", type=float, nargs=2, default=default, metavar=("MIN", "MAX"), help=text)


def check_arguments(arguments: argparse.Namespace) -> None:
    """Validate the options and set the default of --stride.

    Raises:
        InputError: the output lies inside the input (code "output-inside-input"), or a value is out of range.
    """
    output = arguments.output
    if arguments.input.resolve() in output.resolve().parents:
        raise InputError(
            f"{output}: lies inside --input, where the next run would read it. Choose another folder.",
            code="output-inside-input",
        )
    if arguments.kind == "frames":
        if arguments.window < 1 or arguments.window % 2 == 0:
            raise InputError(
                f"--window {arguments.window}: expected an odd number, to have a middle frame.", code="window-even"
            )
        if arguments.stride is None:
            arguments.stride = arguments.window
    elif arguments.domain_mix and arguments.variants != ["blur"]:
        raise InputError(
            f"--domain_mix {arguments.domain_mix:g}: mixes both domains in `blur`; add --variants blur.",
            code="domain-mix-variants",
        )
    for name, least in (("stride", 1), ("exposures", 1), ("side", 0), ("workers", 1), ("seed", 0)):
        if getattr(arguments, name, least) < least:
            raise InputError(f"--{name} {getattr(arguments, name)}: expected at least {least}.", code="option-range")


def motion_rules(arguments: argparse.Namespace) -> tuple[Shake, RegionRules, ObjectRules]:
    """Return the motion of camera, regions and objects as set by the options.

    Raises:
        InputError: a value is out of its range.
    """
    shake = Shake(**_fields(Shake, arguments))
    radius, travel = tuple(arguments.region_radius), tuple(arguments.region_travel)
    regions = RegionRules(arguments.regions, radius, arguments.region_edge, travel)
    radius, travel = tuple(arguments.object_radius), tuple(arguments.object_travel)
    objects = ObjectRules(arguments.objects, radius, travel, arguments.object_turn, arguments.object_growth)
    return shake, regions, objects


def capture_rules(arguments: argparse.Namespace) -> CaptureRules:
    """Return scale, noise, compression and domain as set by the options.

    Raises:
        InputError: a value is out of its range.
    """
    noise = {name: _as_range(name, getattr(arguments, name)) for name in ("shot_noise", "read_noise")}
    return CaptureRules(**_fields(CaptureRules, arguments) | noise)


def _fields(kind: type[Any], arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the options that are fields of a dataclass, with lists as tuples."""
    values = {field.name: getattr(arguments, field.name) for field in dataclasses.fields(kind)}
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}


def _as_range(name: str, given: float | list[float]) -> Range:
    values = given if isinstance(given, list) else [given]
    if len(values) > 2:
        listed = " ".join(f"{value:g}" for value in values)
        raise InputError(
            f"--{name} {listed}: expected one value, or the smallest and the largest.", code="range-values"
        )
    return values[0], values[-1]
