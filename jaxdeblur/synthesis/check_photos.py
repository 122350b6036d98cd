"""Check a folder of sharp photos before creating synthetic blur from it.

    jaxdeblur check-photos my_photos

Each photo, at any depth, is checked for

  integrity   it can be decoded as a training image (PNG, JPEG, WebP, TIFF, AVIF)
  size        its shorter side has at least --min_side pixels
  sharpness   at least --min_sharpness: the variance of the Laplacian of its grey values (0 to 255) in the sharpest
              tenth of its tiles of 96x96 pixels, to tolerate a blurred background. Where a smaller version would
              be sharp enough, the factor is given
  duplicates  no other has the same bytes, or a difference hash (256 bits) within --max_distance bits: the same picture
              resized, recompressed or slightly cropped
  licence     CREDITS.tsv in the folder (tab-separated, with the columns file and licence, and preferably author and
              source) lists it with a licence; pass --own if all photos are your own

The default of --min_sharpness was set on 98 sharp photos of 768 to 1600 pixels: it rejects 2 of them, 98% of them after
Gaussian blur of 1 pixel, and 98%, 88% and 47% after linear motion of 21, 11 and 5 pixels. Noise passes for sharpness.
The default of --max_distance was set on 207 different photos, no two of which are within 75 bits.

The exit status is 0 without problems; 1 with problems, or if the folder cannot be read.
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
REDUCTION_FACTORS = (2, 3, 4)  # tried on photos that are not sharp


@dataclasses.dataclass
class PhotoCheck:
    """Result of checking a file.

    Attributes:
        name: path below the folder.
        size: (width, height) in pixels; None if it cannot be read.
        sharpness: see the module; 0.0 if it cannot be read.
        digest: SHA-256 of the file.
        difference_hash: 256 booleans; None if it cannot be read.
        licence: from CREDITS.tsv, "" for none.
        problems: descriptions of problems.
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
) -> tuple[list[PhotoCheck], list[str]]:
    """Check the photos below a folder; return the results, sorted by name, and problems of the folder.

    Args:
        folder: to check.
        own: licences are not required.
        min_side: minimum length of the shorter side in pixels.
        min_sharpness: see the module.
        max_distance: of the difference hashes of near duplicates, in bits.

    Raises:
        InputError: the folder is missing (code "folder-missing") or holds no photos ("folder-empty"), or CREDITS.tsv is
            invalid ("credits-unreadable", "credits-columns").
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder.", code="folder-missing")
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    if not paths:
        raise InputError(
            f"{folder}: no photos found; expected files that end in {', '.join(SUFFIXES)}.", code="folder-empty"
        )
    licences = read_licences(folder / CREDITS)
    photos = [check_photo(path, path.relative_to(folder).as_posix(), min_side, min_sharpness) for path in paths]
    for photo in photos:
        photo.licence = licences.get(photo.name, "")
        if not own and not photo.licence:
            photo.problems.append(f"no licence in {CREDITS}")
    add_duplicates(photos, max_distance)
    unknown = sorted(licences.keys() - {photo.name for photo in photos})
    return photos, [f"{CREDITS}: {name}: no such photo" for name in unknown]


def read_licences(path: Path) -> dict[str, str]:
    """Return the licence of each file in CREDITS.tsv; {} without that file.

    Raises:
        InputError: it is unreadable, or lacks one of the columns `file` and `licence`.
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


def check_photo(path: Path, name: str, min_side: int, min_sharpness: float) -> PhotoCheck:
    """Check one file; duplicates and licences are checked by `check_folder`."""
    photo = PhotoCheck(name)
    try:
        content = path.read_bytes()
        image = Image.fromarray(decode_image(content, name)).convert("L")
    except (InputError, OSError) as error:
        photo.problems.append(f"cannot be read: {str(error).removeprefix(f'{name}: ')}")
        return photo
    photo.size = image.size
    photo.digest = hashlib.sha256(content).hexdigest()
    photo.difference_hash = difference_hash(image)
    photo.sharpness = sharpness(image)
    if min(image.size) < min_side:
        photo.problems.append(f"too small: its shorter side has {min(image.size)} pixels, expected {min_side}")
    if photo.sharpness < min_sharpness:
        problem = f"blurred: sharpness {photo.sharpness:.0f}, expected {min_sharpness:.0f}"
        if factor := _sharp_when_reduced(image, min_side, min_sharpness):
            problem += f" (reached at 1/{factor} of its size)"
        photo.problems.append(problem)
    return photo


def sharpness(image: Image.Image) -> float:
    """Return the variance of the Laplacian of a grey image: its 90th percentile over complete tiles."""
    grey = np.asarray(image, np.float32)
    edges = ndimage.laplace(grey)
    rows, columns = (max(side // TILE, 1) for side in grey.shape)
    height, width = (min(TILE, side) for side in grey.shape)
    tiles = edges[: rows * height, : columns * width].reshape(rows, height, columns, width)
    return float(np.quantile(tiles.var(axis=(1, 3)), 0.9))


def _sharp_when_reduced(image: Image.Image, min_side: int, min_sharpness: float) -> int | None:
    for factor in REDUCTION_FACTORS:
        size = (image.width // factor, image.height // factor)
        if min(size) >= min_side and sharpness(image.resize(size, Image.Resampling.LANCZOS)) >= min_sharpness:
            return factor
    return None


def difference_hash(image: Image.Image) -> np.ndarray:
    """Return 256 bits: whether pixels of a grey image reduced to 17x16 are brighter than their left neighbours."""
    small = np.asarray(image.resize((17, 16), Image.Resampling.LANCZOS), np.int16)
    return (small[:, 1:] > small[:, :-1]).ravel()


def add_duplicates(photos: Sequence[PhotoCheck], max_distance: int) -> None:
    """Add a problem to each photo that duplicates an earlier one."""
    readable = [photo for photo in photos if photo.difference_hash is not None]
    for i, photo in enumerate(readable):
        for other in readable[:i]:
            distance = np.count_nonzero(photo.difference_hash != other.difference_hash)
            if photo.digest == other.digest:
                photo.problems.append(f"the same file as {other.name}")
            elif distance <= max_distance:
                photo.problems.append(f"nearly the same picture as {other.name} ({distance} of 256 bits differ)")
            else:
                continue
            break


def describe(photos: Sequence[PhotoCheck], problems: Sequence[str]) -> str:
    """Format the results as a table with problems and a summary."""
    longest = max(len("file"), *(len(photo.name) for photo in photos))
    lines = [f"{'file':{longest}}  {'pixels':>11}  {'sharpness':>9}  licence"]
    for photo in photos:
        size = f"{photo.size[0]}x{photo.size[1]}" if photo.size else "-"
        value = f"{photo.sharpness:.0f}" if photo.size else "-"
        lines.append(f"{photo.name:{longest}}  {size:>11}  {value:>9}  {photo.licence or '-'}")
        lines += [f"  ! {problem}" for problem in photo.problems]
    lines += [f"! {problem}" for problem in problems]
    bad = sum(bool(photo.problems) for photo in photos)
    return "\n".join([*lines, f"{len(photos)} photos, {bad} with problems"])


def main(arguments: Sequence[str] | None = None, *, prog: str) -> None:
    """Check a folder and print the results; exit with status 1 if there are problems."""
    parser = argparse.ArgumentParser(
        prog=prog, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="with photos, also in subfolders")
    parser.add_argument("--own", action="store_true", help="all are your own: licences are not required")
    parser.add_argument("--min_side", type=int, default=MIN_SIDE, help="pixels (%(default)s)")
    parser.add_argument("--min_sharpness", type=float, default=MIN_SHARPNESS, help="see above (%(default)g)")
    parser.add_argument("--max_distance", type=int, default=MAX_DISTANCE, help="bits of 256 (%(default)s)")
    options = parser.parse_args(arguments)
    try:
        photos, problems = check_folder(
            options.folder.expanduser(),
            own=options.own,
            min_side=options.min_side,
            min_sharpness=options.min_sharpness,
            max_distance=options.max_distance,
        )
    except (InputError, OSError) as error:
        sys.exit(f"error: {error}")
    print(describe(photos, problems))
    if problems or any(photo.problems for photo in photos):
        sys.exit(1)
