"""From a stored pair to what the network sees: which part of the frame, squeezed to what, turned and recoloured how.

Images are uint8 RGB, (H, W, 3), from the first step to the last; both of a pair are treated alike. Whatever is random
comes from the generator passed in, and what is switched off draws nothing from it.
"""

import dataclasses
import math

import numpy as np

from jaxdeblur.data.array_records import Window
from jaxdeblur.data.sources import PairSource
from jaxdeblur.images.decode import resize_image

VARIANTS = ("blur", "sharp")
SAME = (1.0, 1.0)  # the range of factors that changes nothing


@dataclasses.dataclass(frozen=True)
class InputOptions:
    """How an image pair becomes the network's input; all but the first two are for training alone.

    Attributes:
        resize: side in pixels of the square that the whole frame is resized to; 0 leaves it as it is.
        resize_filter: name of Pillow's filter, antialiased when it shrinks.
        flip_and_turn: mirror at random and turn by a random multiple of 90 degrees.
        rescale: least and greatest factor by which things appear larger than without it, drawn log-uniformly; the
            blur's length is multiplied by it too. With `resize`, the square is squeezed from a random window of
            1 / factor of the frame's sides, times crop / resize where there is a crop; without, the frame is rescaled
            before the crop.
        stretch: greatest ratio of the rows' factor to the columns', and the other way round; drawn log-uniformly.
        permute_channels: exchange red, green and blue at random.
        gain: least and greatest factor of all values, drawn log-uniformly; less where a value would exceed 255.
    """

    resize: int
    resize_filter: str
    flip_and_turn: bool
    rescale: tuple[float, float] = SAME
    stretch: float = 1.0
    permute_channels: bool = False
    gain: tuple[float, float] = SAME

    @property
    def rescales(self) -> bool:
        """Whether windows of random sizes are read, which takes frames that are not resized yet."""
        return tuple(self.rescale) != SAME or self.stretch != 1

    def frame_side(self, crop: int) -> int:
        """Return the fewest pixels that a stored frame's side must have for every random crop of this side."""
        if self.resize or not crop:
            return 0
        return math.ceil(crop * math.sqrt(self.stretch) / self.rescale[0] - 1e-9)  # 1e-9: rounding of the quotient


def read_example(
    source: PairSource, index: int, options: InputOptions, crop: int, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """Read a pair as a training example: `blur` and `sharp`, of which no more is read than is needed.

    Args:
        source: pairs.
        index: which one.
        options: what becomes of it.
        crop: side in pixels of a random square of the (resized) frame; 0 takes it whole.
        rng: source of all randomness.
    """
    frame = source.sizes[index]
    if options.rescales:
        window = _place_window(frame, _draw_window(frame, options, crop, rng), rng)
    elif crop and not options.resize:
        window = _place_window(frame, (crop, crop), rng)
    else:
        window = np.s_[:, :]
    pair = source.read(index, window)
    if options.rescales:
        pair = {key: resize_image(pair[key], crop or options.resize, options.resize_filter) for key in VARIANTS}
    elif options.resize:
        pair = resize_pair(pair, options)
        if crop:
            part = _place_window((options.resize, options.resize), (crop, crop), rng)
            pair = {key: image[part] for key, image in pair.items()}
    if options.flip_and_turn:
        pair = _turn(pair, rng)
    return _recolour(pair, options, rng)


def resize_pair(pair: dict, options: InputOptions) -> dict[str, np.ndarray]:
    """Return a pair's images, squeezed to the square that the options name, if they name one."""
    images = {key: pair[key] for key in VARIANTS}
    if not options.resize:
        return images
    return {key: resize_image(image, options.resize, options.resize_filter) for key, image in images.items()}


def _draw_window(frame: tuple[int, int], options: InputOptions, crop: int, rng: np.random.Generator) -> tuple[int, int]:
    """Return how many rows and columns of a frame (H, W) become the square, by a random factor."""
    both, tilt = _draw_factor(options.rescale, rng), 1.0
    if options.stretch != 1:
        tilt = math.sqrt(_draw_factor((1 / options.stretch, options.stretch), rng))
    sides = []
    for side, factor in zip(frame, (both * tilt, both / tilt), strict=True):
        # With both `resize` and a crop, what the crop would show is all that is read and squeezed.
        part = (side * (crop or options.resize) / options.resize if options.resize else crop) / factor
        sides.append(min(side, max(1, round(part))))  # no factor can show more than the whole side
    return sides[0], sides[1]


def _draw_factor(limits: tuple[float, float], rng: np.random.Generator) -> float:
    return math.exp(rng.uniform(math.log(limits[0]), math.log(limits[1])))


def _place_window(frame: tuple[int, int], sides: tuple[int, int], rng: np.random.Generator) -> Window:
    """Return a random window with sides (rows, columns) of a frame (H, W)."""
    top, left = (int(rng.integers(whole - side + 1)) for whole, side in zip(frame, sides, strict=True))
    return np.s_[top : top + sides[0], left : left + sides[1]]


def _turn(pair: dict, rng: np.random.Generator) -> dict[str, np.ndarray]:
    height, width = pair["blur"].shape[:2]
    # A frame that is not square keeps its shape: half turns only.
    turns = int(rng.integers(4)) if height == width else 2 * int(rng.integers(2))
    mirror = bool(rng.integers(2))
    return {key: np.rot90(pair[key][:, ::-1] if mirror else pair[key], turns) for key in VARIANTS}


def _recolour(pair: dict, options: InputOptions, rng: np.random.Generator) -> dict[str, np.ndarray]:
    if options.permute_channels:
        order = rng.permutation(3)
        pair = {key: pair[key][..., order] for key in VARIANTS}
    if tuple(options.gain) != SAME:
        brightest = max(1, *(int(pair[key].max()) for key in VARIANTS))
        gain = min(_draw_factor(options.gain, rng), 255 / brightest)  # a clipped value would be another blur
        table = np.rint(np.minimum(np.arange(256) * gain, 255)).astype(np.uint8)
        pair = {key: np.take(table, pair[key]) for key in VARIANTS}  # twice as fast as table[...]
    return pair
