"""Fetching photos from a local git repository and a package served by HTTP."""

import csv
import functools
import hashlib
import http.server
import io
import subprocess
import tarfile
import threading

import fetch_photographs
import numpy as np
import pytest
from fetch_photographs import LIST, debian_url, read_list, reduce_photograph
from PIL import Image

from jaxdeblur.errors import InputError

DEB = "pictures-20_1.0-2_all.deb"


def photograph(width, height, seed):
    """JPEG bytes of smooth noise."""
    small = np.random.default_rng(seed).integers(0, 256, (height // 16, width // 16, 3), np.uint8)
    image = Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)
    content = io.BytesIO()
    image.save(content, "JPEG", quality=95)
    return content.getvalue()


def reduced(content, size):
    """The listed file: Lanczos, quality 92, 4:4:4."""
    result = io.BytesIO()
    image = Image.open(io.BytesIO(content)).convert("RGB").resize(size, Image.Resampling.LANCZOS)
    image.save(result, "JPEG", quality=92, subsampling=0, optimize=True)
    return result.getvalue()


def git(folder, *arguments):
    identity = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false")
    done = subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path):
    """A repository whose second commit deletes one photo; returns base URL, commit and contents."""
    folder = tmp_path / "github" / "some one".replace(" ", "-") / "wall.papers"
    (folder / "été").mkdir(parents=True)
    there, gone = photograph(320, 240, 1), photograph(200, 300, 2)
    (folder / "été" / "a (b) [c].jpg").write_bytes(there)
    (folder / "gone one.jpg").write_bytes(gone)
    (folder / "notes.jpg").write_text("no image")
    git(folder, "init", "--quiet")
    git(folder, "add", "-A")
    git(folder, "commit", "--quiet", "-m", "first")
    git(folder, "rm", "--quiet", "gone one.jpg")
    git(folder, "commit", "--quiet", "-m", "second")
    return f"file://{tmp_path / 'github'}", git(folder, "rev-parse", "--short=7", "HEAD"), there, gone


@pytest.fixture
def archive(tmp_path):
    """A Debian archive with one package, served by HTTP; returns its URL and the photo's content."""
    content, data = photograph(320, 160, 3), io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:xz") as tar:
        member = tarfile.TarInfo("./usr/share/backgrounds/Road.jpg")
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))
    members = {"debian-binary": b"2.0\n", "control.tar.xz": b"odd", "data.tar.xz": data.getvalue()}
    package = b"!<arch>\n"
    for name, body in members.items():
        package += (
            f"{name:16}{0:<12}{0:<6}{0:<6}{'100644':8}{len(body):<10}`\n".encode() + body + b"\n" * (len(body) % 2)
        )
    path = tmp_path / "debian/pool/main/p/pictures" / DEB
    path.parent.mkdir(parents=True)
    path.write_bytes(package)
    (path.parent / "broken_1_all.deb").write_bytes(b"<html>moved</html>")

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=tmp_path / "debian"))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", content
    server.shutdown()
    thread.join()
    server.server_close()


def row(file, source, size, content, split="train"):
    sha256 = hashlib.sha256(content).hexdigest()
    return {
        "file": file,
        "source": source,
        "author": "A",
        "licence": "CC0",
        "size": size,
        "sha256": sha256,
        "split": split,
    }


def write_list(path, rows):
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0], delimiter="\t", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return path


def test_photos_match_the_list(tmp_path, repository, archive, capsys):
    github, commit, there, gone = repository
    debian, road = archive
    source = f"github some-one/wall.papers@{commit}"
    rows = [
        row("a.jpg", f"{source}:été/a (b) [c].jpg", "160x120", reduced(there, (160, 120))),
        row("gone.jpg", f"{source}:(history) gone one.jpg", "200x300", reduced(gone, (200, 300)), "held"),
        row("road.jpg", f"debian pictures/{DEB}:Road.jpg", "64x32", reduced(road, (64, 32))),
        row("other.jpg", f"debian pictures/{DEB}:backgrounds/Road.jpg", "64x32", b"another encoder's"),
    ]
    arguments = ["--list", str(write_list(tmp_path / "list.tsv", rows)), "--output", str(tmp_path / "out")]
    arguments += ["--github", github, "--debian", debian]
    assert fetch_photographs.main(arguments) == 0
    output = capsys.readouterr().out.splitlines()
    assert output[-1] == "3 identical, 1 re-encoded, 0 failed"
    written = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.*")}
    assert written == {"train/a.jpg", "held/gone.jpg", "train/road.jpg", "train/other.jpg"}
    assert (tmp_path / "out/train/a.jpg").read_bytes() == reduced(there, (160, 120))

    # Existing identical files need no source; the others are fetched again.
    arguments[-3:] = ["file:///nowhere", "--debian", debian]
    assert fetch_photographs.main(arguments) == 0
    assert fetch_photographs.main([*arguments, "--split", "held"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "1 identical, 0 re-encoded, 0 failed"


def test_failures_are_reported_and_do_not_stop_the_rest(tmp_path, repository, archive, capsys):
    github, commit, _, _ = repository
    debian, road = archive
    source = f"github some-one/wall.papers@{commit}"
    rows = [
        row("1.jpg", f"{source}:nowhere.jpg", "160x120", b""),
        row("2.jpg", f"{source}:notes.jpg", "160x120", b""),
        row("3.jpg", f"{source}:été/a (b) [c].jpg", "160x100", b""),
        row("4.jpg", f"{source}:été/a (b) [c].jpg", "640x480", b""),
        row("5.jpg", "github some-one/else@1234567:a.jpg", "160x120", b""),
        row("6.jpg", f"debian pictures/{DEB}:oad.jpg", "64x32", b""),
        row("7.jpg", "debian pictures/broken_1_all.deb:Road.jpg", "64x32", b""),
        row("8.jpg", "debian pictures/gone_1_all.deb:Road.jpg", "64x32", b""),
        row("9.jpg", f"debian pictures/{DEB}:Road.jpg", "64x32", reduced(road, (64, 32))),
    ]
    arguments = ["--list", str(write_list(tmp_path / "list.tsv", rows)), "--output", str(tmp_path / "out")]
    assert fetch_photographs.main([*arguments, "--github", github, "--debian", debian]) == 1
    output = {line.split()[1].rstrip(":"): line for line in capsys.readouterr().out.splitlines()[:-1]}
    for name, reason in (
        ("1.jpg", "not in the repository's history"),
        ("2.jpg", "not an image"),
        ("3.jpg", "320x240, which cannot be reduced to 160x100"),
        ("4.jpg", "320x240, which cannot be reduced to 640x480"),
        ("5.jpg", "git clone"),
        ("6.jpg", "0 files of that name"),
        ("7.jpg", "not a Debian package"),
        ("8.jpg", "404"),
    ):
        assert output[name].startswith("failed")
        assert reason in output[name]
    assert output["9.jpg"].startswith("identical")
    assert [path.name for path in (tmp_path / "out").rglob("*.*")] == ["9.jpg"]


@pytest.mark.parametrize(
    "change",
    [
        {"file": "../a.jpg"},
        {"source": "github some-one@1234567:a.jpg"},
        {"source": "github some-one/else@main:a.jpg"},
        {"source": "https://example.org/a.jpg"},
        {"size": "160"},
        {"sha256": "1234"},
        {"split": "test"},
    ],
)
def test_invalid_rows_are_refused_with_their_line(tmp_path, change):
    good = row("a.jpg", "github some-one/else@1234567:a.jpg", "160x120", b"")
    path = write_list(tmp_path / "list.tsv", [good, {**good, **change}])
    with pytest.raises(InputError) as error:
        read_list(path)
    assert error.value.code == "list-bad-row"
    assert "line 3" in str(error.value)
    assert next(iter(change)) in str(error.value)


def test_missing_or_empty_list_is_refused(tmp_path):
    for path, code in ((tmp_path / "gone.tsv", "list-unreadable"), (tmp_path / "empty.tsv", "list-empty")):
        (tmp_path / "empty.tsv").touch()
        with pytest.raises(InputError) as error:
            read_list(path)
        assert error.value.code == code


def test_urls_in_a_debian_archive():
    """In Debian's pool, by the first letter, or the first four for libraries."""
    url = debian_url("http://deb.debian.org/debian", "lomiri-wallpapers", "lomiri-wallpapers-20.04_20.04.0-2_all.deb")
    assert url == (
        "http://deb.debian.org/debian/pool/main/l/lomiri-wallpapers/lomiri-wallpapers-20.04_20.04.0-2_all.deb"
    )
    assert "/main/libp/libpng/" in debian_url("http://a", "libpng", "a.deb")


def test_orientation_is_applied_before_downscaling():
    upright = Image.open(io.BytesIO(photograph(320, 240, 4)))
    content, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to show
    upright.transpose(Image.Transpose.ROTATE_90).save(content, "JPEG", quality=95, exif=exif)
    with Image.open(io.BytesIO(reduce_photograph(content.getvalue(), (160, 120)))) as result:
        assert result.size == (160, 120)


def test_list_has_122_different_photos():
    photographs = read_list(LIST)
    assert len(photographs) == 122
    assert len({photograph.file for photograph in photographs}) == len({row.sha256 for row in photographs}) == 122
    assert [photograph.split for photograph in photographs].count("held") == 10
    with LIST.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            assert row["author"]
            assert not row["licence"].startswith(("Unsplash", "Pexels"))


def test_notice_credits_every_photo_whose_licence_requires_it():
    """CC BY, CC BY-SA and GFDL require author, source and licence; the notice is part of the built package."""
    root = LIST.parent.parent
    sections = (root / "NOTICE").read_text(encoding="utf-8").split("\n\n")
    with LIST.open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file, delimiter="\t") if row["licence"].startswith(("CC BY", "GFDL"))]
    assert len(rows) == 53
    for row in rows:
        (credits,) = [text for text in sections if f": {row['file']}\n" in text]
        heading = sections[sections.index(credits) - 1]
        assert row["licence"] in heading
        assert "https://" in heading
        entry = credits[credits.index(f"  {row['author']}: {row['file']}\n") :].splitlines()[1]
        assert row["source"].split(":", 1)[1].removeprefix("(history) ") in entry
    assert any("GOPRO_Large" in text for text in sections)
