"""Fetch the openly licensed photos that the shipped network was trained and validated on.

    python tools/fetch_photographs.py --output data/open_photographs

docs/photographs.tsv lists them with source, author, licence, size and SHA-256. Each is taken from its source (a GitHub
repository at a commit, by git, or a Debian package), reduced to the size in the list with Pillow's Lanczos filter and
written to OUTPUT/train or OUTPUT/held as JPEG of quality 92 without chroma subsampling. Its SHA-256 shows whether it is
the original file:

  identical    the same bytes
  re-encoded   the right size, other bytes: another version of Pillow or libjpeg, or a source that has changed
  failed       not fetched, not an image, or of another aspect ratio than listed

Existing identical files are not fetched again. The exit status is 0 if none failed, else 1.

Tested on local sources and on the package lomiri-wallpapers, whose seven photos come out identical; never run against
GitHub.
"""

import argparse
import contextlib
import csv
import dataclasses
import functools
import hashlib
import io
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import urllib.parse
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from PIL import Image, ImageOps

from jaxdeblur.errors import InputError
from jaxdeblur.files import atomic_write, file_sha256

LIST = Path(__file__).parent.parent / "docs" / "photographs.tsv"
GITHUB = "https://github.com"
DEBIAN = "https://snapshot.debian.org/archive/debian/20230701T000000Z"  # a day with all the packages
SPLITS = ("train", "held")
COLUMNS = ("file", "source", "author", "licence", "size", "sha256", "split")
SOURCE = re.compile(
    r"github (?P<repository>[\w.-]+/[\w.-]+)@(?P<commit>[0-9a-f]{7,40}):(?:\(history\) )?(?P<path>.+)"
    r"|debian (?P<package>[\w.+-]+)/(?P<deb>[\w.+~-]+\.deb):(?P<member>.+)"
)
JPEG = {"format": "JPEG", "quality": 92, "subsampling": 0, "optimize": True}


@dataclasses.dataclass(frozen=True)
class Photograph:
    """A row of the list.

    Attributes:
        file: name in OUTPUT/`split`.
        origin: source, ("github", repository, commit) or ("debian", source package, .deb).
        path: within the origin; of a package, the end of the path.
        size: (width, height) after reduction.
        sha256: of the reduced file.
        split: `train` or `held`.
    """

    file: str
    origin: tuple[str, str, str]
    path: str
    size: tuple[int, int]
    sha256: str
    split: str


@dataclasses.dataclass(frozen=True)
class Outcome:
    """Result for a photo: `identical`, `re-encoded` or `failed`, and the reason."""

    file: str
    status: str
    reason: str = ""


def read_list(path: Path) -> list[Photograph]:
    """Read a list in the format of docs/photographs.tsv.

    Raises:
        InputError: it is unreadable (code "list-unreadable"), empty ("list-empty") or has an invalid row
            ("list-bad-row").
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file, delimiter="\t"))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"--list {path}: cannot be read ({error}).", code="list-unreadable") from error
    if not rows:
        raise InputError(f"--list {path}: has no rows.", code="list-empty")
    return [_read_row(row, f"--list {path}, line {line}") for line, row in enumerate(rows, 2)]


def _read_row(row: dict[str, str], location: str) -> Photograph:
    fields = {name: row.get(name) or "" for name in COLUMNS}
    source = SOURCE.fullmatch(fields["source"])
    size = re.fullmatch(r"(\d+)x(\d+)", fields["size"])
    checks = {
        "file": Path(fields["file"]).name == fields["file"] and fields["file"].endswith(".jpg"),
        "source": source is not None,
        "size": size is not None,
        "sha256": re.fullmatch(r"[0-9a-f]{64}", fields["sha256"]) is not None,
        "split": fields["split"] in SPLITS,
    }
    if wrong := [f"{name} {fields[name]!r}" for name, holds in checks.items() if not holds]:
        raise InputError(f"{location}: not as in docs/photographs.tsv: {', '.join(wrong)}.", code="list-bad-row")
    if source["repository"]:
        origin, path = ("github", source["repository"], source["commit"]), source["path"]
    else:
        origin, path = ("debian", source["package"], source["deb"]), source["member"]
    return Photograph(fields["file"], origin, path, (int(size[1]), int(size[2])), fields["sha256"], fields["split"])


def debian_url(base: str, package: str, deb: str) -> str:
    """Return the URL of a binary package in a Debian archive."""
    first = package[:4] if package.startswith("lib") else package[0]
    return f"{base}/pool/main/{first}/{package}/{urllib.parse.quote(deb)}"


@contextlib.contextmanager
def open_repository(base: str, repository: str) -> Iterator[Path]:
    """Clone a repository's history into a temporary folder; files are fetched on demand.

    Raises:
        InputError: git is missing, or the repository cannot be cloned.
    """
    with tempfile.TemporaryDirectory() as folder:
        _git(folder, "clone", "--quiet", "--bare", "--filter=blob:none", f"{base}/{repository}", "repository")
        yield Path(folder) / "repository"


def read_from_repository(clone: Path, commit: str, path: str) -> bytes:
    """Return a file at a commit; a deleted one as of its last commit.

    Raises:
        InputError: the history does not have it (code "not-in-history").
    """
    try:
        return _git(clone, "cat-file", "blob", f"{commit}:{path}")
    except InputError:
        pass
    last = ("log", "-1", "--format=%H", "--full-history", "--no-renames", "--diff-filter=AM")
    for start in (commit, "--all"):
        revision = _git(clone, *last, start, "--", f":(literal){path}").decode().strip()
        if revision:
            return _git(clone, "cat-file", "blob", f"{revision}:{path}")
    raise InputError(f"{path}: not in the repository's history", code="not-in-history")


def _git(folder: Path | str, *arguments: str) -> bytes:
    environment = {**os.environ, "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
    try:
        done = subprocess.run(["git", *arguments], cwd=folder, env=environment, capture_output=True, check=False)
    except FileNotFoundError as error:
        raise InputError("git is not installed", code="git-missing") from error
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        raise InputError(f"git {arguments[0]}: {lines[-1] if lines else done.returncode}", code="git-failed")
    return done.stdout


def read_package(url: str) -> tarfile.TarFile:
    """Fetch a Debian package and return its files.

    Raises:
        InputError: it cannot be fetched, or is not a Debian package.
    """
    try:
        with urllib.request.urlopen(url, timeout=60) as response:
            content = response.read()
    except (OSError, ValueError) as error:
        raise InputError(f"{url}: cannot be fetched ({error})", code="not-fetched") from error
    try:
        return tarfile.open(fileobj=io.BytesIO(_extract_data(content)))
    except (tarfile.TarError, ValueError) as error:
        raise InputError(f"{url}: not a Debian package ({error})", code="not-a-package") from error


def _extract_data(package: bytes) -> bytes:
    """Return the member `data.tar.*` of a package, which is an ar archive."""
    if not package.startswith(b"!<arch>\n"):
        raise ValueError("not an ar archive")
    start = 8
    while start + 60 <= len(package):
        header = package[start : start + 60]
        name, size = header[:16].decode("ascii").strip().rstrip("/"), int(header[48:58])
        if name.startswith("data.tar"):
            return package[start + 60 : start + 60 + size]
        start += 60 + size + size % 2
    raise ValueError("contains no data.tar")


def read_from_package(package: tarfile.TarFile, path: str) -> bytes:
    """Return the file of a package whose path ends with `path`.

    Raises:
        InputError: there is none, or there are several.
    """
    matches = [member for member in package.getmembers() if f"/{member.name}".endswith(f"/{path}") and member.isfile()]
    if len(matches) != 1:
        raise InputError(f"{path}: {len(matches)} files of that name in the package", code="not-in-package")
    return package.extractfile(matches[0]).read()


def reduce_photograph(content: bytes, size: tuple[int, int]) -> bytes:
    """Downscale a photo to `size` and return it as JPEG.

    Raises:
        InputError: it is not an image, smaller than `size`, or of another aspect ratio.
    """
    try:
        with Image.open(io.BytesIO(content)) as image:
            image = ImageOps.exif_transpose(image).convert("RGB")
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"not an image ({error})", code="not-an-image") from error
    (width, height), (actual_width, actual_height) = size, image.size
    if actual_width < width or abs(actual_height * width / actual_width - height) > 1.0:
        raise InputError(
            f"{actual_width}x{actual_height}, which cannot be reduced to {width}x{height}", code="other-proportions"
        )
    if image.size != size:
        image = image.resize(size, Image.Resampling.LANCZOS)
    result = io.BytesIO()
    image.save(result, **JPEG)
    return result.getvalue()


@contextlib.contextmanager
def open_origin(origin: tuple[str, str, str], *, github: str, debian: str) -> Iterator[Callable[[str], bytes]]:
    """Open a repository or a package and yield a function that reads one of its files.

    Raises:
        InputError: it cannot be fetched.
    """
    kind, name, version = origin
    if kind == "github":
        with open_repository(github, name) as clone:
            yield functools.partial(read_from_repository, clone, version)
    else:
        with read_package(debian_url(debian, name, version)) as package:
            yield functools.partial(read_from_package, package)


def fetch(photographs: Sequence[Photograph], output: Path, *, github: str, debian: str) -> Iterator[Outcome]:
    """Fetch photos, grouped by origin, and yield the result for each."""
    origins: dict[tuple[str, str, str], list[Photograph]] = {}
    for photograph in photographs:
        path = output / photograph.split / photograph.file
        if path.is_file() and file_sha256(path) == photograph.sha256:
            yield Outcome(photograph.file, "identical", "already exists")
        else:
            origins.setdefault(photograph.origin, []).append(photograph)
    for origin, group in origins.items():
        try:
            with open_origin(origin, github=github, debian=debian) as read:
                for photograph in group:
                    yield _fetch_one(photograph, output, read)
        except InputError as error:  # of the origin, and thus of all its photos
            yield from (Outcome(photograph.file, "failed", str(error)) for photograph in group)


def _fetch_one(photograph: Photograph, output: Path, read: Callable[[str], bytes]) -> Outcome:
    try:
        content = reduce_photograph(read(photograph.path), photograph.size)
    except InputError as error:
        return Outcome(photograph.file, "failed", str(error))
    path = output / photograph.split / photograph.file
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as temporary:
        temporary.write_bytes(content)
    if hashlib.sha256(content).hexdigest() == photograph.sha256:
        return Outcome(photograph.file, "identical")
    return Outcome(photograph.file, "re-encoded", "right size, but other bytes than listed")


def main(arguments: Sequence[str] | None = None) -> int:
    """Fetch the photos and return the exit status.

    Raises:
        InputError: the list is invalid.
        OSError: the output is not writable.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="folder to write `train` and `held` to")
    parser.add_argument("--list", type=Path, default=LIST, help="list of photos (docs/photographs.tsv)")
    parser.add_argument("--split", choices=SPLITS, help="only the photos of this split")
    parser.add_argument("--github", default=GITHUB, help="URL of repositories (%(default)s)")
    parser.add_argument("--debian", default=DEBIAN, help="a Debian archive (%(default)s)")
    options = parser.parse_args(arguments)
    photographs = [row for row in read_list(options.list) if options.split in (None, row.split)]
    counts: Counter[str] = Counter()
    for outcome in fetch(photographs, options.output, github=options.github, debian=options.debian):
        counts[outcome.status] += 1
        print(f"{outcome.status:11}{outcome.file}{f': {outcome.reason}' if outcome.reason else ''}", flush=True)
    print(", ".join(f"{counts[status]} {status}" for status in ("identical", "re-encoded", "failed")))
    return 1 if counts["failed"] else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (InputError, OSError) as error:
        sys.exit(f"error: {error}")
