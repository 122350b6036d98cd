"""Written photos, as Pillow, OpenCV and tifffile read them back; atomicity."""

import itertools
import os
import threading

import cv2
import numpy as np
import pytest
import tifffile
from PIL import ExifTags, Image, ImageCms

from jaxdeblur.errors import InputError
from jaxdeblur.images.metadata import Metadata
from jaxdeblur.images.photo import Photo, read_photo
from jaxdeblur.images.save import FILE_FORMATS, write_photo

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (70, 9, 3), np.uint8)
DEEP = RNG.integers(0, 65536, (150, 9, 3), np.uint16)  # three strips
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:li tiff:Orientation="6">\xc3\xa4</rdf:li></x:xmpmeta>'


def write(photo, path, **options):
    kind = next(key for key, kind in FILE_FORMATS.items() if path.suffix in kind.suffixes)
    return write_photo(photo, path, kind, **{"quality": 95, **options})


def photo_of(pixels, alpha=None, *, grey=False, metadata=None):
    return Photo(pixels, alpha, grey, metadata or Metadata(), "PNG")


@pytest.mark.parametrize(
    ("suffix", "alpha"), [(".bmp", False), *itertools.product((".png", ".tif", ".webp"), (False, True))]
)
def test_8_bits_are_lossless(tmp_path, suffix, alpha):
    """Including colours under full transparency."""
    photo = photo_of(RGB, np.where(RGB[..., 0] < 128, 0, RGB[..., 1]) if alpha else None)
    assert write(photo, tmp_path / f"a{suffix}") == []
    with Image.open(tmp_path / f"a{suffix}") as image:
        expected = np.dstack([RGB, photo.alpha]) if alpha else RGB
        np.testing.assert_array_equal(np.asarray(image), expected)


def test_non_contiguous_pixels_are_written(tmp_path):
    write(photo_of(np.rot90(RGB)[:, ::-1]), tmp_path / "a.png")
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "a.png")), np.rot90(RGB)[:, ::-1])


@pytest.mark.parametrize("alpha", [False, True])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_16_bits_are_lossless(tmp_path, suffix, alpha):
    transparency = RNG.integers(0, 65536, DEEP.shape[:2], np.uint16) if alpha else None
    expected = np.dstack([DEEP, transparency]) if alpha else DEEP
    assert write(photo_of(DEEP, transparency), tmp_path / f"a{suffix}") == []
    actual = cv2.imread(str(tmp_path / f"a{suffix}"), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(actual[..., [2, 1, 0, 3][: expected.shape[2]]], expected)
    if suffix == ".tif":
        np.testing.assert_array_equal(tifffile.imread(tmp_path / "a.tif"), expected)
    again = read_photo(tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(again.pixels, DEEP)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_one_row_of_16_bits(tmp_path, suffix):
    write(photo_of(DEEP[:1]), tmp_path / f"a{suffix}")
    actual = cv2.imread(str(tmp_path / f"a{suffix}"), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(actual[..., ::-1], DEEP[:1])


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize(("dtype", "mode"), [(np.uint8, "L"), (np.uint16, "I;16")])
def test_grey_stays_grey_as_the_rounded_mean(tmp_path, dtype, mode, suffix):
    pixels = np.array([[[1, 1, 3], [1, 1, 2], [250, 251, 255]]], dtype)
    write(photo_of(pixels, grey=True), tmp_path / f"a{suffix}")
    with Image.open(tmp_path / f"a{suffix}") as image:
        assert image.mode == mode
        np.testing.assert_array_equal(np.asarray(image), [[2, 1, 252]])


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_grey_keeps_its_alpha(tmp_path, suffix):
    grey = np.repeat(RGB[..., :1], 3, axis=-1)
    write(photo_of(grey, RGB[..., 1], grey=True), tmp_path / f"a{suffix}")
    with Image.open(tmp_path / f"a{suffix}") as image:
        assert image.mode == "LA"
        np.testing.assert_array_equal(np.asarray(image), RGB[..., :2])


def test_rounding_to_8_bits_is_noted(tmp_path):
    pixels = np.array([[[0, 128, 129], [257 * 9 - 128, 257 * 9 + 128, 65535]]], np.uint16)
    notes = write(photo_of(pixels), tmp_path / "a.bmp")
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "a.bmp")), [[[0, 0, 1], [9, 9, 255]]])
    assert notes == ["BMP holds 8 bits a channel: 16 were rounded"]


def test_jpeg_has_full_chroma_and_the_given_quality(tmp_path):
    for quality in (95, 20):
        write(photo_of(RGB), tmp_path / f"{quality}.jpg", quality=quality)
        Image.fromarray(RGB).save(tmp_path / "theirs.jpg", quality=quality, subsampling="4:4:4")
        assert (tmp_path / f"{quality}.jpg").read_bytes() == (tmp_path / "theirs.jpg").read_bytes()


def test_unsupported_content_is_refused(tmp_path):
    for suffix, name in ((".jpg", "JPEG"), (".bmp", "BMP")):
        with pytest.raises(InputError, match=f"{name} holds no transparency; choose --format png") as error:
            write(photo_of(RGB, RGB[..., 0]), tmp_path / f"a{suffix}")
        assert error.value.code == "no-transparency"
    with pytest.raises(InputError, match="WEBP holds sides of at most 16383 pixels, not 16384x1") as error:
        write(photo_of(np.zeros((1, 16384, 3), np.uint8)), tmp_path / "a.webp")
    assert error.value.code == "image-too-large"
    assert list(tmp_path.iterdir()) == []


def full_exif():
    exif = Image.Exif()
    exif[ExifTags.Base.Make] = "maker"
    details = exif.get_ifd(ExifTags.IFD.Exif)
    details[ExifTags.Base.ExposureTime] = 0.25
    details[ExifTags.Base.MakerNote] = bytes(range(256))
    details[ExifTags.Base.ExifImageWidth] = 4000
    exif.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitude] = (47.0, 30.0, 15.5)
    return exif


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp", ".jpg"])
def test_metadata_is_kept(tmp_path, suffix, deep):
    """From a camera-like JPEG to each format, read back by Pillow."""
    exif = full_exif()
    exif[ExifTags.Base.Orientation] = 6
    options = {"exif": exif, "icc_profile": PROFILE, "xmp": XMP, "dpi": (300, 300), "comment": b"seen"}
    Image.fromarray(RGB).save(tmp_path / "camera.jpg", **options)
    photo = read_photo(tmp_path / "camera.jpg")
    photo = photo_of(DEEP if deep else photo.pixels, metadata=photo.metadata)
    height, width = photo.pixels.shape[:2]
    notes = write(photo, tmp_path / f"a{suffix}")
    with Image.open(tmp_path / f"a{suffix}") as image:
        assert image.size == (width, height)
        image.load()
        written = image.getexif()
        details, expected = written.get_ifd(ExifTags.IFD.Exif), exif.get_ifd(ExifTags.IFD.Exif)
        assert written.get(ExifTags.Base.Orientation, 1) == 1  # and in XMP below
        assert written[ExifTags.Base.Make] == "maker"
        assert details[ExifTags.Base.ExposureTime] == 0.25
        assert details[ExifTags.Base.MakerNote] == expected[ExifTags.Base.MakerNote]
        assert details[ExifTags.Base.ExifImageWidth] == width
        assert written.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitude] == (47.0, 30.0, 15.5)
        assert image.info["icc_profile"] == PROFILE
        xmp = image.info["xmp"]
        assert xmp.rstrip(b"\0") == XMP.replace(b'"6"', b'"1"')
        if suffix != ".webp":
            assert [round(float(dots), 1) for dots in image.info["dpi"]] == [300, 300]
        assert image.info.get("comment") == (b"seen" if suffix == ".jpg" else None)
    lost = [] if suffix == ".jpg" else [f"{FILE_FORMATS[{'.tif': 'tiff'}.get(suffix, suffix[1:])].name} cannot hold "]
    other_notes = [note for note in notes if "8 bits" not in note]
    assert [note.split("the comment")[0] for note in other_notes] == lost


def test_png_text_and_colour_chunks_are_kept(tmp_path):
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_text("Title", "a", zip=True)
    info.add_itxt("Author", "\u00e4", "de")
    info.add(b"gAMA", (45455).to_bytes(4, "big"))
    Image.fromarray(RGB).save(tmp_path / "in.png", pnginfo=info)
    for pixels in (RGB, DEEP):
        photo = photo_of(pixels, metadata=read_photo(tmp_path / "in.png").metadata)
        assert write(photo, tmp_path / "a.png") == []
        with Image.open(tmp_path / "a.png") as image:
            image.load()
            assert image.text == {"Title": "a", "Author": "\u00e4"}
            assert image.info["gamma"] == 0.45455
    assert write(photo, tmp_path / "a.tif") == ["TIFF cannot hold PNG's text: left out"]


def test_storage_tags_of_a_tiff_are_dropped(tmp_path):
    """Such as StripOffsets, which Pillow reports as EXIF."""
    exif = Image.Exif()
    exif[ExifTags.Base.Artist] = "artist"
    Image.fromarray(RGB).save(tmp_path / "in.tif", compression="tiff_lzw", exif=exif, icc_profile=PROFILE)
    photo = read_photo(tmp_path / "in.tif")
    for suffix in (".png", ".jpg", ".tif"):
        write(photo, tmp_path / f"a{suffix}")
        with Image.open(tmp_path / f"a{suffix}") as image:
            image.load()
            assert image.getexif()[ExifTags.Base.Artist] == "artist"
            assert image.info["icc_profile"] == PROFILE
            if suffix != ".tif":
                assert dict(image.getexif()) == {ExifTags.Base.Artist: "artist"}


def test_failure_leaves_only_the_old_file(tmp_path):
    (tmp_path / "a.png").write_bytes(b"old")

    def fail(complete):
        assert complete.stat().st_size > 0
        raise OSError("stop")

    with pytest.raises(OSError, match="stop"):
        write(photo_of(RGB), tmp_path / "a.png", before_rename=fail)
    assert os.listdir(tmp_path) == ["a.png"]
    assert (tmp_path / "a.png").read_bytes() == b"old"


@pytest.mark.parametrize("stem", ["x" * 251, "\u00e4" * 120 + "x" * 6, "y" * 240])
def test_longest_names_are_written(tmp_path, stem):
    path = tmp_path / f"{stem}.png"
    assert write(photo_of(RGB), path) == []
    assert os.listdir(tmp_path) == [path.name]
    assert read_photo(path).pixels.shape == RGB.shape


def test_concurrent_writers_do_not_collide(tmp_path):
    """Each sees its own complete content; the file is one of them, and nothing else is left."""
    path, barrier, failures = tmp_path / "a.png", threading.Barrier(4), []

    def write_often(level):
        pixels = np.full((40, 40, 3), level, np.uint8)

        def check(complete):
            with Image.open(complete) as image:
                if (np.asarray(image) != level).any():
                    failures.append(level)

        for _ in range(25):
            barrier.wait(20)
            try:
                write(photo_of(pixels), path, before_rename=check)
            except Exception as error:
                failures.append(error)

    threads = [threading.Thread(target=write_often, args=(level,)) for level in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert os.listdir(tmp_path) == ["a.png"]
    assert np.unique(np.asarray(Image.open(path))).size == 1


def test_leftover_of_a_killed_writer_is_overwritten(tmp_path):
    def die(complete):
        (tmp_path / "left").write_text(complete.name)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(photo_of(RGB), tmp_path / "a.png", before_rename=die)
    left = tmp_path / (tmp_path / "left").read_text()
    left.write_bytes(bytes(100_000))  # as after SIGKILL, and longer than the new content
    (tmp_path / "left").unlink()
    write(photo_of(RGB), tmp_path / "a.png")
    assert os.listdir(tmp_path) == ["a.png"]
    write(photo_of(RGB), tmp_path / "b.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
