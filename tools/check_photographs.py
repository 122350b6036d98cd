"""Check a folder of sharp photographs before synthetic blur is made from it and a network is trained on that.

    python tools/check_photographs.py my_photographs

Each photograph, at any depth, is checked for

  damage      it can be read by the rules of training data (PNG, JPEG, WebP, TIFF)
  size        its shorter side has at least --min_side pixels
  sharpness   at least --min_sharpness: the variance of the Laplacian of its grey values (0 to 255) in the sharpest
              tenth of its tiles of 96x96 pixels, so that a blurred background does no harm. Where a smaller version
              would be sharp enough, the factor is given
  duplicates  no other has the same bytes, or a difference hash (256 bits) within --max_distance bits: the same picture
              resized, compressed again, or cropped a little
  licence     CREDITS.tsv in the folder (tab-separated, with the columns file and licence; author and source are worth
              noting too) has a line for it with a licence; --own for photographs that are all your own

The default of --min_sharpness was set on 98 sharp photographs of 768 to 1600 pixels: it refuses 2 of them, and of the
same photographs 98% after Gaussian blur of 1 pixel, 98% after linear motion of 21 pixels, 88% of 11 and 47% of 5. Noise
passes for sharpness. That of --max_distance was set on 207 different photographs, no two of which are within 75 bits.

The exit status is 0 if there is nothing to report, 1 if there is, or if the folder cannot be read.
"""

import argparse
import csv
import dataclasses
import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage

from jaxdeblur.errors import InputError
from jaxdeblur.images.decode import SUFFIXES, decode_image

CREDITS = "CREDITS.tsv"
MIN_SIDE = 512
MIN_SHARPNESS = 400.0
MAX_DISTANCE = 52
TILE = 96  # pixels
FACTORS = (2, 3, 4)  # by which a photograph is tried smaller


@dataclasses.dataclass
class Photograph:
    """What is known of a file.

    Attributes:
        name: its path below the folder.
        size: (width, height) in pixels; None if it cannot be read.
        sharpness: as the module says; 0.0 if it cannot be read.
        digest: SHA-256 of its bytes.
        difference_hash: 256 booleans; None if it cannot be read.
        licence: as CREDITS.tsv has it, "" for none.
        problems: what is wrong with it.
    """

    name: str
    size: tuple[int, int] | None = None
    sharpness: float = 0.0
    digest: str = ""
    difference_hash: np.ndarray | None = None
    licence: str = ""
    problems: list[str] = dataclasses.field(default_factory=list)


def check_folder(
    folder: Path,
    *,
    own: bool = False,
    min_side: int = MIN_SIDE,
    min_sharpness: float = MIN_SHARPNESS,
    max_distance: int = MAX_DISTANCE,
) -> tuple[list[Photograph], list[str]]:
    """Return the photographs below a folder, sorted by name, and problems that belong to none of them.

    Args:
        folder: of photographs.
        own: no licences need be noted.
        min_side: of the shorter side, pixels.
        min_sharpness: see the module.
        max_distance: between the difference hashes of near duplicates, bits.

    Raises:
        InputError: no such folder, no photographs in it, or CREDITS.tsv is not of its form.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder.", code="folder-missing")
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    if not paths:
        raise InputError(
            f"{folder}: no photographs found; expected files that end in {', '.join(SUFFIXES)}.", code="folder-empty"
        )
    licences = read_licences(folder / CREDITS)
    photographs = [examine(path, path.relative_to(folder).as_posix(), min_side, min_sharpness) for path in paths]
    for photograph in photographs:
        photograph.licence = licences.get(photograph.name, "")
        if not own and not photograph.licence:
            photograph.problems.append(f"no licence in {CREDITS}")
    note_duplicates(photographs, max_distance)
    unknown = sorted(licences.keys() - {photograph.name for photograph in photographs})
    return photographs, [f"{CREDITS}: {name}: no such photograph" for name in unknown]


def read_licences(path: Path) -> dict[str, str]:
    """Return the licence of each file that CREDITS.tsv names; {} if there is no such file.

    Raises:
        InputError: it cannot be read, or lacks one of the columns `file` and `licence`.
    """
    if not path.exists():
        return {}
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, delimiter="\t")
            rows, columns = list(reader), reader.fieldnames or []
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read ({error}).", code="credits-unreadable") from error
    if missing := {"file", "licence"} - set(columns):
        raise InputError(
            f"{path}: no column {' and '.join(sorted(missing))}; expected tab-separated columns file and licence.",
            code="credits-columns",
        )
    return {row["file"]: (row["licence"] or "").strip() for row in rows if row["file"]}


def examine(path: Path, name: str, min_side: int, min_sharpness: float) -> Photograph:
    """Return what one file is, with the problems that it has by itself."""
    photograph = Photograph(name)
    try:
        content = path.read_bytes()
        image = Image.fromarray(decode_image(content, name)).convert("L")
    except (InputError, OSError) as error:
        photograph.problems.append(f"cannot be read: {str(error).removeprefix(f'{name}: ')}")
        return photograph
    photograph.size = image.size
    photograph.digest = hashlib.sha256(content).hexdigest()
    photograph.difference_hash = difference_hash(image)
    photograph.sharpness = sharpness(image)
    if min(image.size) < min_side:
        photograph.problems.append(f"too small: its shorter side has {min(image.size)} pixels, expected {min_side}")
    if photograph.sharpness < min_sharpness:
        words = f"blurred: sharpness {photograph.sharpness:.0f}, expected {min_sharpness:.0f}"
        if factor := _sharp_when_reduced(image, min_side, min_sharpness):
            words += f" (reached at 1/{factor} of its size)"
        photograph.problems.append(words)
    return photograph


def sharpness(image: Image.Image) -> float:
    """Return the 90th percentile, over whole tiles, of the variance of the Laplacian of a grey image."""
    grey = np.asarray(image, np.float32)
    edges = ndimage.laplace(grey)
    rows, columns = (max(side // TILE, 1) for side in grey.shape)
    height, width = (min(TILE, side) for side in grey.shape)
    tiles = edges[: rows * height, : columns * width].reshape(rows, height, columns, width)
    return float(np.quantile(tiles.var(axis=(1, 3)), 0.9))


def _sharp_when_reduced(image: Image.Image, min_side: int, min_sharpness: float) -> int | None:
    for factor in FACTORS:
        size = (image.width // factor, image.height // factor)
        if min(size) >= min_side and sharpness(image.resize(size, Image.Resampling.LANCZOS)) >= min_sharpness:
            return factor
    return None


def difference_hash(image: Image.Image) -> np.ndarray:
    """Return whether each of 16x16 places of a grey image, made small, is brighter than its left neighbour."""
    small = np.asarray(image.resize((17, 16), Image.Resampling.LANCZOS), np.int16)
    return (small[:, 1:] > small[:, :-1]).ravel()


def note_duplicates(photographs: Sequence[Photograph], max_distance: int) -> None:
    """Note at each photograph the first one before it that shows the same picture."""
    readable = [photograph for photograph in photographs if photograph.difference_hash is not None]
    for i, photograph in enumerate(readable):
        for other in readable[:i]:
            distance = np.count_nonzero(photograph.difference_hash != other.difference_hash)
            if photograph.digest == other.digest:
                photograph.problems.append(f"the same file as {other.name}")
            elif distance <= max_distance:
                photograph.problems.append(f"nearly the same picture as {other.name} ({distance} of 256 bits differ)")
            else:
                continue
            break


def describe(photographs: Sequence[Photograph], problems: Sequence[str]) -> str:
    """Return a table of all photographs, problems below each, and a summary."""
    longest = max(len("file"), *(len(photograph.name) for photograph in photographs))
    lines = [f"{'file':{longest}}  {'pixels':>11}  {'sharpness':>9}  licence"]
    for photograph in photographs:
        size = f"{photograph.size[0]}x{photograph.size[1]}" if photograph.size else "-"
        value = f"{photograph.sharpness:.0f}" if photograph.size else "-"
        lines.append(f"{photograph.name:{longest}}  {size:>11}  {value:>9}  {photograph.licence or '-'}")
        lines += [f"  ! {problem}" for problem in photograph.problems]
    lines += [f"! {problem}" for problem in problems]
    bad = sum(bool(photograph.problems) for photograph in photographs)
    return "\n".join([*lines, f"{len(photographs)} photographs, {bad} with problems"])


def main(arguments: Sequence[str] | None = None) -> int:
    """Check a folder, print the table, and return the exit status.

    Raises:
        InputError: see `check_folder`.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="of photographs, with subfolders")
    parser.add_argument("--own", action="store_true", help="all are your own: no licences need be noted")
    parser.add_argument("--min_side", type=int, default=MIN_SIDE, help="pixels (%(default)s)")
    parser.add_argument("--min_sharpness", type=float, default=MIN_SHARPNESS, help="see above (%(default)g)")
    parser.add_argument("--max_distance", type=int, default=MAX_DISTANCE, help="bits of 256 (%(default)s)")
    options = parser.parse_args(arguments)
    photographs, problems = check_folder(
        options.folder.expanduser(),
        own=options.own,
        min_side=options.min_side,
        min_sharpness=options.min_sharpness,
        max_distance=options.max_distance,
    )
    print(describe(photographs, problems))
    return 1 if problems or any(photograph.problems for photograph in photographs) else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (InputError, OSError) as error:
        sys.exit(f"error: {error}")
