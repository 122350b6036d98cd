"""Fetch the openly licensed photographs that the shipped network was trained and validated on.

    python tools/fetch_photographs.py --output data/open_photographs

docs/photographs.tsv lists them with source, author, licence, size and SHA-256. Each is taken from its source (a GitHub
repository at a commit, by git, or a Debian package), reduced to the size in the list with Pillow's Lanczos filter and
written to OUTPUT/train or OUTPUT/held as JPEG of quality 92 without chroma subsampling. Its SHA-256 tells whether it is
the file that was used:

  identical    the same bytes
  re-encoded   the right size, other bytes: another version of Pillow or libjpeg, or a source that has changed
  failed       not fetched, not an image, or of other proportions than the list says

What is there already and identical is not fetched again. The exit status is 0 if none failed, else 1.

It has never been run against GitHub, which was out of reach where it was written. The seven photographs of the package
lomiri-wallpapers come out identical; everything else was tested on local sources.
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

LIST = Path(__file__).parent.parent / "docs" / "photographs.tsv"
GITHUB = "https://github.com"
DEBIAN = "https://snapshot.debian.org/archive/debian/20230701T000000Z"  # a day on which all the packages were there
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
        file: its name in OUTPUT/`split`.
        origin: what it is fetched with, ("github", repository, commit) or ("debian", source package, .deb).
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
    """What became of a photograph: `identical`, `re-encoded` or `failed`, and why."""

    file: str
    status: str
    reason: str = ""


def read_list(path: Path) -> list[Photograph]:
    """Return the photographs of a list in the form of docs/photographs.tsv.

    Raises:
        InputError: it cannot be read, or a row is not of that form.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file, delimiter="\t"))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"--list {path}: cannot be read ({error}).", code="list-unreadable") from error
    if not rows:
        raise InputError(f"--list {path}: has no rows.", code="list-empty")
    return [_read_row(row, f"--list {path}, line {line}") for line, row in enumerate(rows, 2)]


def _read_row(row: dict[str, str], where: str) -> Photograph:
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
    if wrong := [f"{name} {fields[name]!r}" for name, good in checks.items() if not good]:
        raise InputError(f"{where}: not as in docs/photographs.tsv: {', '.join(wrong)}.", code="list-bad-row")
    if source["repository"]:
        origin, path = ("github", source["repository"], source["commit"]), source["path"]
    else:
        origin, path = ("debian", source["package"], source["deb"]), source["member"]
    return Photograph(fields["file"], origin, path, (int(size[1]), int(size[2])), fields["sha256"], fields["split"])


def debian_url(base: str, package: str, deb: str) -> str:
    """Return where a Debian archive keeps a binary package of a source package."""
    first = package[:4] if package.startswith("lib") else package[0]
    return f"{base}/pool/main/{first}/{package}/{urllib.parse.quote(deb)}"


@contextlib.contextmanager
def open_repository(base: str, repository: str) -> Iterator[Path]:
    """Clone a repository's history, its files only as they are asked for, into a temporary folder.

    Raises:
        InputError: git is missing, or the repository cannot be cloned.
    """
    with tempfile.TemporaryDirectory() as folder:
        _git(folder, "clone", "--quiet", "--bare", "--filter=blob:none", f"{base}/{repository}", "repository")
        yield Path(folder) / "repository"


def read_from_repository(clone: Path, commit: str, path: str) -> bytes:
    """Return a file at a commit; one that is not there any more as the history last had it.

    Raises:
        InputError: neither has it.
    """
    try:
        return _git(clone, "cat-file", "blob", f"{commit}:{path}")
    except InputError:
        pass
    last = ("log", "-1", "--format=%H", "--full-history", "--no-renames", "--diff-filter=AM")
    for start in (commit, "--all"):
        found = _git(clone, *last, start, "--", f":(literal){path}").decode().strip()
        if found:
            return _git(clone, "cat-file", "blob", f"{found}:{path}")
    raise InputError(f"{path}: not in the repository's history", code="not-in-history")


def _git(folder: Path | str, *arguments: str) -> bytes:
    environment = {**os.environ, "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
    try:
        done = subprocess.run(["git", *arguments], cwd=folder, env=environment, capture_output=True, check=False)
    except FileNotFoundError as error:
        raise InputError("git is not installed", code="git-missing") from error
    if done.returncode:
        words = done.stderr.decode(errors="replace").strip().splitlines()
        raise InputError(f"git {arguments[0]}: {words[-1] if words else done.returncode}", code="git-failed")
    return done.stdout


def read_package(url: str) -> tarfile.TarFile:
    """Fetch a Debian package and return its files.

    Raises:
        InputError: it cannot be fetched, or is no Debian package.
    """
    try:
        with urllib.request.urlopen(url, timeout=60) as response:
            content = response.read()
    except (OSError, ValueError) as error:
        raise InputError(f"{url}: cannot be fetched ({error})", code="not-fetched") from error
    try:
        return tarfile.open(fileobj=io.BytesIO(_data_of(content)))
    except (tarfile.TarError, ValueError) as error:
        raise InputError(f"{url}: no Debian package ({error})", code="not-a-package") from error


def _data_of(package: bytes) -> bytes:
    """Return the member `data.tar.*` of a package, which is an archive of ar's format."""
    if not package.startswith(b"!<arch>\n"):
        raise ValueError("not in ar's format")
    start = 8
    while start + 60 <= len(package):
        header = package[start : start + 60]
        name, size = header[:16].decode("ascii").strip().rstrip("/"), int(header[48:58])
        if name.startswith("data.tar"):
            return package[start + 60 : start + 60 + size]
        start += 60 + size + size % 2
    raise ValueError("no data.tar in it")


def read_from_package(package: tarfile.TarFile, path: str) -> bytes:
    """Return the file of a package whose path ends with `path`.

    Raises:
        InputError: there is none, or there are several.
    """
    found = [member for member in package.getmembers() if f"/{member.name}".endswith(f"/{path}") and member.isfile()]
    if len(found) != 1:
        raise InputError(f"{path}: {len(found)} files of that name in the package", code="not-in-package")
    return package.extractfile(found[0]).read()


def reduce_photograph(content: bytes, size: tuple[int, int]) -> bytes:
    """Return a photograph reduced to `size` as JPEG.

    Raises:
        InputError: it is no image, smaller than `size`, or of other proportions.
    """
    try:
        with Image.open(io.BytesIO(content)) as image:
            image = ImageOps.exif_transpose(image).convert("RGB")
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"not an image ({error})", code="not-an-image") from error
    (width, height), (found_width, found_height) = size, image.size
    if found_width < width or abs(found_height * width / found_width - height) > 1.0:
        raise InputError(
            f"{found_width}x{found_height}, which cannot be reduced to {width}x{height}", code="other-proportions"
        )
    if image.size != size:
        image = image.resize(size, Image.Resampling.LANCZOS)
    result = io.BytesIO()
    image.save(result, **JPEG)
    return result.getvalue()


@contextlib.contextmanager
def open_origin(origin: tuple[str, str, str], *, github: str, debian: str) -> Iterator[Callable[[str], bytes]]:
    """Open a repository or a package, and give the function that reads a file of it.

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
    """Fetch photographs, those of one origin together, and yield what became of each."""
    origins: dict[tuple[str, str, str], list[Photograph]] = {}
    for photograph in photographs:
        path = output / photograph.split / photograph.file
        if path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == photograph.sha256:
            yield Outcome(photograph.file, "identical", "was there already")
        else:
            origins.setdefault(photograph.origin, []).append(photograph)
    for origin, group in origins.items():
        try:
            with open_origin(origin, github=github, debian=debian) as read:
                for photograph in group:
                    yield _fetch_one(photograph, output, read)
        except InputError as error:  # of the origin: none of the group is there
            yield from (Outcome(photograph.file, "failed", str(error)) for photograph in group)


def _fetch_one(photograph: Photograph, output: Path, read: Callable[[str], bytes]) -> Outcome:
    try:
        content = reduce_photograph(read(photograph.path), photograph.size)
    except InputError as error:
        return Outcome(photograph.file, "failed", str(error))
    path = output / photograph.split / photograph.file
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_bytes(content)
    temporary.replace(path)
    if hashlib.sha256(content).hexdigest() == photograph.sha256:
        return Outcome(photograph.file, "identical")
    return Outcome(photograph.file, "re-encoded", "the right size, but other bytes than in the list")


def main(arguments: Sequence[str] | None = None) -> int:
    """Fetch the photographs and return the exit status.

    Raises:
        InputError: the list cannot be read.
        OSError: the output cannot be written.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="the folder to write `train` and `held` to")
    parser.add_argument("--list", type=Path, default=LIST, help="of photographs (docs/photographs.tsv)")
    parser.add_argument("--split", choices=SPLITS, help="only the photographs of this split")
    parser.add_argument("--github", default=GITHUB, help="where repositories are (%(default)s)")
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
