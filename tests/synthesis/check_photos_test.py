"""Checks of a folder of photos: every kind of problem is found, and no other is reported."""

import numpy as np
import pytest
from PIL import Image, ImageFilter

from jaxdeblur.errors import InputError
from jaxdeblur.synthesis import check_photos
from jaxdeblur.synthesis.check_photos import check_folder, difference_hash, read_licences, sharpness


def scene(seed, width=640, height=576):
    """A sharp image: rectangles of random position and grey."""
    rng, pixels = np.random.default_rng(seed), np.zeros((height, width, 3), np.uint8)
    for _ in range(300):
        top, left = rng.integers(0, (height, width))
        pixels[top : top + rng.integers(8, 90), left : left + rng.integers(8, 90)] = rng.integers(0, 256, 3)
    return Image.fromarray(pixels)


def move(image, length):
    """Diagonal motion blur by whole pixels."""
    pixels = np.asarray(image, np.float32)
    return Image.fromarray(
        np.mean([np.roll(pixels, (i, i), axis=(0, 1)) for i in range(length)], axis=0).astype(np.uint8)
    )


@pytest.fixture
def folder(tmp_path):
    """Three valid photos with licences."""
    (tmp_path / "sub").mkdir()
    for i, name in enumerate(("a.png", "b.jpg", "sub/c.png")):
        scene(i).save(tmp_path / name)
    write_credits(tmp_path, "file\tauthor\tlicence", "a.png\tA\tCC0", "b.jpg\tB\tCC BY 4.0", "sub/c.png\tC\tmine")
    return tmp_path


def write_credits(folder, *lines):
    (folder / "CREDITS.tsv").write_text("\n".join(lines) + "\n")


def problems_of(folder, **options):
    photos, others = check_folder(folder, **options)
    return {photo.name: photo.problems for photo in photos if photo.problems}, others


def test_valid_photos_pass(folder, capsys):
    assert problems_of(folder) == ({}, [])
    check_photos.main([str(folder)], prog="check-photos")  # does not exit
    output = capsys.readouterr().out
    for text in ("sub/c.png", "640x576", "CC BY 4.0", "3 photos, 0 with problems"):
        assert text in output


def test_every_kind_of_problem_is_found(folder, capsys):
    (folder / "1.png").write_bytes((folder / "a.png").read_bytes()[:2000])
    scene(5, 640, 400).save(folder / "2.png")
    move(scene(6), 21).save(folder / "3.png")
    scene(7).filter(ImageFilter.GaussianBlur(2)).save(folder / "4.png")
    (folder / "d.png").write_bytes((folder / "a.png").read_bytes())
    scene(1).crop((6, 6, 640, 576)).save(folder / "e.jpg", quality=50)
    licensed = ("1.png", "2.png", "3.png", "4.png", "b.jpg", "d.png", "e.jpg", "gone.png")
    write_credits(folder, "file\tlicence", "a.png\t", *(f"{name}\tCC0" for name in licensed))
    found, others = problems_of(folder)
    assert {
        name: [problem.split(":")[0].split(" (")[0] for problem in problems] for name, problems in found.items()
    } == {
        "1.png": ["cannot be read"],
        "2.png": ["too small"],
        "3.png": ["blurred"],
        "4.png": ["blurred"],
        "a.png": ["no licence in CREDITS.tsv"],
        "d.png": ["the same file as a.png"],
        "e.jpg": ["nearly the same picture as b.jpg"],
        "sub/c.png": ["no licence in CREDITS.tsv"],
    }
    assert others == ["CREDITS.tsv: gone.png: no such photo"]
    with pytest.raises(SystemExit) as end:
        check_photos.main([str(folder)], prog="check-photos")
    assert end.value.code == 1
    assert "  ! cannot be read" in capsys.readouterr().out


def test_soft_photo_may_be_sharp_when_downscaled(tmp_path):
    scene(0).resize((1920, 1728), Image.Resampling.BICUBIC).save(tmp_path / "large.png")
    found, _ = problems_of(tmp_path, own=True, min_sharpness=1000.0)
    (problem,) = found["large.png"]
    assert problem.endswith("(reached at 1/3 of its size)")


def test_own_photos_need_no_licence(folder):
    (folder / "CREDITS.tsv").unlink()
    assert problems_of(folder, own=True) == ({}, [])
    assert len(problems_of(folder)[0]) == 3


def test_sharpness_is_the_laplacian_variance_of_the_sharpest_tiles():
    """One of 10 tiles is a checkerboard of 0 and 255, whose Laplacian is +-4*255 away from its border."""
    pixels = np.zeros((96, 960), np.uint8)
    pixels[:, :192] = 255 * (np.indices((96, 192)).sum(0) % 2)
    value = sharpness(Image.fromarray(pixels))
    assert 0.8 * (4 * 255) ** 2 < value < 1.05 * (4 * 255) ** 2
    assert sharpness(Image.fromarray(np.full((300, 300), 7, np.uint8))) == 0
    assert sharpness(Image.fromarray(pixels[:50, :50])) > 0  # smaller than a tile


def test_sharpness_decreases_with_motion():
    values = [sharpness(move(scene(0), length).convert("L")) for length in (1, 3, 9, 27)]
    assert values == sorted(values, reverse=True)
    assert values[0] > 5 * values[-1]


def test_hashes_of_different_images_are_far_apart():
    hashes = [difference_hash(scene(seed).convert("L")) for seed in range(6)]
    distances = [np.count_nonzero(a != b) for i, a in enumerate(hashes) for b in hashes[:i]]
    assert min(distances) > check_photos.MAX_DISTANCE


def test_unusable_folders_are_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "CREDITS.tsv").write_text("file,licence\na.png,CC0\n")
    for call, path, code in (
        (check_folder, tmp_path / "gone", "folder-missing"),
        (check_folder, tmp_path / "empty", "folder-empty"),
        (read_licences, tmp_path / "CREDITS.tsv", "credits-columns"),
    ):
        with pytest.raises(InputError) as error:
            call(path)
        assert error.value.code == code
