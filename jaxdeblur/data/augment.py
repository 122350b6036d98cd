"""Augmentation: from a stored pair to a training example by cropping, resizing, flips, rotations and colour changes.

Images are uint8 RGB (H, W, 3) throughout, and both images of a pair are treated alike. All randomness comes from the
generator passed in; disabled options draw nothing from it.
"""

import dataclasses
import math

import numpy as np

from jaxdeblur.data.pair_source import WHOLE, ImagePair, PairSource, Window
from jaxdeblur.images.resize import resize_image

NO_RANGE = (1.0, 1.0)  # the range of factors that disables an option


@dataclasses.dataclass(frozen=True)
class InputOptions:
    """How an image pair becomes the network's input; all but `resize` and `resize_filter` apply to training only.

    Attributes:
        resize: side in pixels of the square that whole frames are resized to; 0 keeps their size.
        resize_filter: name of the Pillow filter, antialiased when shrinking.
        flip_and_rotate: random horizontal flip and rotation by a multiple of 90 degrees.
        zoom: range of the random magnification, drawn log-uniformly; it scales the blur's length too. With `resize`
            (the config's `data.crop_scale`), a random window with 1 / zoom of the frame's sides, times crop / resize
            where there is a crop, is resized; without (`data.zoom`), the frame is rescaled before the crop.
        aspect_jitter: largest ratio between the vertical and the horizontal magnification; drawn log-uniformly.
        permute_channels: random permutation of red, green and blue.
        gain: range of a random factor of all values, drawn log-uniformly; reduced where a value would exceed 255.
    """

    resize: int
    resize_filter: str
    flip_and_rotate: bool
    zoom: tuple[float, float] = NO_RANGE
    aspect_jitter: float = 1.0
    permute_channels: bool = False
    gain: tuple[float, float] = NO_RANGE

    @property
    def reads_windows(self) -> bool:
        """Whether windows of random sizes are read, which needs frames at their original size."""
        return tuple(self.zoom) != NO_RANGE or self.aspect_jitter != 1

    def frame_side(self, crop: int) -> int:
        """Return the smallest side of a stored frame, in pixels, that fits every random crop of side `crop`."""
        if self.resize or not crop:
            return 0
        return math.ceil(crop * math.sqrt(self.aspect_jitter) / self.zoom[0] - 1e-9)  # 1e-9: rounding of the quotient


def read_example(
    source: PairSource, index: int, options: InputOptions, crop: int, rng: np.random.Generator
) -> ImagePair:
    """Read and augment a training example; only the pixels needed are read.

    Args:
        source: pairs.
        index: of the pair.
        options: how it becomes an input.
        crop: side in pixels of a random square of the (resized) frame; 0 for the whole frame.
        rng: source of all randomness.
    """
    frame = source.sizes[index]
    if options.reads_windows:
        window = _random_window(frame, _draw_window_size(frame, options, crop, rng), rng)
    elif crop and not options.resize:
        window = _random_window(frame, (crop, crop), rng)
    else:
        window = WHOLE
    stored = source.read(index, window)
    pair = ImagePair(blur=stored["blur"], sharp=stored["sharp"])
    if options.reads_windows:
        pair = _resize(pair, crop or options.resize, options.resize_filter)
    elif options.resize:
        pair = resize_pair(pair, options)
        if crop:
            part = _random_window((options.resize, options.resize), (crop, crop), rng)
            pair = ImagePair(blur=pair["blur"][part], sharp=pair["sharp"][part])
    if options.flip_and_rotate:
        pair = _flip_and_rotate(pair, rng)
    return _change_colours(pair, options, rng)


def resize_pair(pair: ImagePair, options: InputOptions) -> ImagePair:
    """Return a pair's images resized to `options.resize` squared, if that is set."""
    if not options.resize:
        return ImagePair(blur=pair["blur"], sharp=pair["sharp"])
    return _resize(pair, options.resize, options.resize_filter)


def _resize(pair: ImagePair, side: int, resize_filter: str) -> ImagePair:
    return ImagePair(
        blur=resize_image(pair["blur"], side, resize_filter), sharp=resize_image(pair["sharp"], side, resize_filter)
    )


def _draw_window_size(
    frame: tuple[int, int], options: InputOptions, crop: int, rng: np.random.Generator
) -> tuple[int, int]:
    """Draw the rows and columns of a frame (H, W) that are resized to the input's square."""
    zoom, tilt = _draw_factor(options.zoom, rng), 1.0
    if options.aspect_jitter != 1:
        tilt = math.sqrt(_draw_factor((1 / options.aspect_jitter, options.aspect_jitter), rng))
    sides = []
    for side, factor in zip(frame, (zoom * tilt, zoom / tilt), strict=True):
        # With both `resize` and a crop, only what the crop would show is read and resized.
        length = (side * (crop or options.resize) / options.resize if options.resize else crop) / factor
        sides.append(min(side, max(1, round(length))))  # no factor can show more than the whole side
    return sides[0], sides[1]


def _draw_factor(limits: tuple[float, float], rng: np.random.Generator) -> float:
    return math.exp(rng.uniform(math.log(limits[0]), math.log(limits[1])))


def _random_window(frame: tuple[int, int], size: tuple[int, int], rng: np.random.Generator) -> Window:
    """Return a window of `size` (rows, columns) at a random position in a frame (H, W)."""
    top, left = (int(rng.integers(whole - side + 1)) for whole, side in zip(frame, size, strict=True))
    return np.s_[top : top + size[0], left : left + size[1]]


def _flip_and_rotate(pair: ImagePair, rng: np.random.Generator) -> ImagePair:
    height, width = pair["blur"].shape[:2]
    # Half turns only where the frame is not square, so that its shape is kept.
    quarter_turns = int(rng.integers(4)) if height == width else 2 * int(rng.integers(2))
    flip = bool(rng.integers(2))

    def transform(image: np.ndarray) -> np.ndarray:
        return np.rot90(image[:, ::-1] if flip else image, quarter_turns)

    return ImagePair(blur=transform(pair["blur"]), sharp=transform(pair["sharp"]))


def _change_colours(pair: ImagePair, options: InputOptions, rng: np.random.Generator) -> ImagePair:
    if options.permute_channels:
        order = rng.permutation(3)
        pair = ImagePair(blur=pair["blur"][..., order], sharp=pair["sharp"][..., order])
    if tuple(options.gain) != NO_RANGE:
        brightest = max(1, int(pair["blur"].max()), int(pair["sharp"].max()))
        gain = min(_draw_factor(options.gain, rng), 255 / brightest)  # clipping would change the blur
        table = np.rint(np.minimum(np.arange(256) * gain, 255)).astype(np.uint8)
        # np.take is twice as fast as table[...].
        pair = ImagePair(blur=np.take(table, pair["blur"]), sharp=np.take(table, pair["sharp"]))
    return pair
