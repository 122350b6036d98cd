"""Matching files by name; the files of these tests are empty."""

import os
from pathlib import Path

from jaxdeblur.data.folder_layout import Layout, read_layout


def make(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def pairs(layout: Layout, root: Path) -> dict[tuple[str, str], tuple[str, str]]:
    assert not layout.problems
    assert layout.blur.keys() == layout.sharp.keys()
    assert all(len(files) == 1 for kind in (layout.blur, layout.sharp) for files in kind.values())
    pairs = {name: (layout.blur[name][0], layout.sharp[name][0]) for name in layout.blur}
    return {name: tuple(path.relative_to(root).as_posix() for path in files) for name, files in pairs.items()}


def test_all_layouts_at_any_depth(tmp_path):
    root = tmp_path / "train"
    make(
        root,
        *("scene/blur/1.png", "scene/sharp/1.png"),  # GOPRO_Large
        *("city/night/blur/1.png", "city/night/sharp/1.JPG"),  # deeper
        *("blur/flat.TIF", "sharp/flat.webp"),  # two folders, flat
        *("blur/walk/1.jpeg", "sharp/walk/1.tiff"),  # two folders, nested
        *("trip/blur/day 1/a.b.png", "trip/sharp/day 1/a.b.png"),  # both at once
    )
    assert pairs(read_layout(root, "blur"), root) == {
        ("scene", "1"): ("scene/blur/1.png", "scene/sharp/1.png"),
        ("city/night", "1"): ("city/night/blur/1.png", "city/night/sharp/1.JPG"),
        ("train", "flat"): ("blur/flat.TIF", "sharp/flat.webp"),
        ("walk", "1"): ("blur/walk/1.jpeg", "sharp/walk/1.tiff"),
        ("trip/day 1", "a.b"): ("trip/blur/day 1/a.b.png", "trip/sharp/day 1/a.b.png"),
    }


def test_flat_folder_is_named_from_within_too(tmp_path, monkeypatch):
    make(tmp_path / "walk", "blur/1.png", "sharp/1.png")
    monkeypatch.chdir(tmp_path / "walk")
    assert pairs(read_layout(Path("."), "blur"), Path(".")) == {("walk", "1"): ("blur/1.png", "sharp/1.png")}


def test_other_blur_variant_is_ignored(tmp_path):
    make(tmp_path, "s/blur/1.png", "s/blur_gamma/1.png", "s/sharp/1.png")
    for blur in ("blur", "blur_gamma"):
        assert pairs(read_layout(tmp_path, blur), tmp_path) == {("s", "1"): (f"s/{blur}/1.png", "s/sharp/1.png")}
    make(tmp_path, "t/blur/1.png", "t/sharp/1.png")
    assert read_layout(tmp_path, "blur_gamma").problems == [
        f"{tmp_path}/t: no folder `blur_gamma` (found: blur, sharp)"
    ]


def test_hidden_files_are_ignored_and_others_counted(tmp_path):
    make(
        tmp_path,
        *("s/blur/1.png", "s/sharp/1.png", "s/blur/._1.png", "s/sharp/.DS_Store", ".thumbnails/blur/9.png"),
        *("s/blur/Thumbs.db", "s/sharp/1.BMP", "notes.txt", "LICENSE", "s/notes.txt"),
    )
    layout = read_layout(tmp_path, "blur")
    assert pairs(layout, tmp_path) == {("s", "1"): ("s/blur/1.png", "s/sharp/1.png")}
    assert layout.ignored == {".db": 1, ".bmp": 1, ".txt": 2, "no suffix": 1}


def test_images_outside_the_folders_are_a_problem(tmp_path):
    make(tmp_path, "s/blur/1.png", "s/sharp/1.png", "s/preview.png", "t/Blur/1.png", "t/Sharp/1.png")
    assert read_layout(tmp_path, "blur").problems == [
        f"{tmp_path}/s: 1 image(s) outside the folders `blur` and `sharp` (preview.png)",
        f"{tmp_path}/t/Blur: 1 image(s) outside the folders `blur` and `sharp` (1.png)",
        f"{tmp_path}/t/Sharp: 1 image(s) outside the folders `blur` and `sharp` (1.png)",
    ]


def test_links_are_followed_without_cycles(tmp_path):
    make(tmp_path / "elsewhere", "blur/1.png", "original.png")
    root = make(tmp_path / "train", "s/sharp/x")
    (root / "s" / "blur").symlink_to(tmp_path / "elsewhere" / "blur")
    (root / "s" / "sharp" / "1.png").symlink_to(tmp_path / "elsewhere" / "original.png")
    (root / "s" / "again").symlink_to(root)
    (root / "s" / "sharp" / "up").symlink_to(root / "s" / "sharp")
    assert pairs(read_layout(root, "blur"), root) == {("s", "1"): ("s/blur/1.png", "s/sharp/1.png")}


def test_accents_are_normalized(tmp_path):
    make(tmp_path, "caf\u00e9/blur/\u00e9.png", "caf\u00e9/sharp/e\u0301.png")
    layout = read_layout(tmp_path, "blur")
    assert list(layout.blur) == list(layout.sharp) == [("caf\u00e9", "\u00e9")]


def test_names_that_are_not_utf8_are_escaped(tmp_path):
    scene, frame = os.fsdecode(b"scene \xff"), os.fsdecode(b"\xe9.png")
    make(tmp_path, f"{scene}/blur/{frame}", f"{scene}/sharp/{frame}")
    layout = read_layout(tmp_path, "blur")
    assert list(layout.blur) == list(layout.sharp) == [(r"scene \xff", r"\xe9")]
    assert layout.blur[r"scene \xff", r"\xe9"] == [tmp_path / scene / "blur" / frame]
    assert layout.problems == []
