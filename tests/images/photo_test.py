"""Photos of every kind, with pixels as Pillow, OpenCV and tifffile read them; refusals and their messages."""

import io
import struct
import zlib

import cv2
import numpy as np
import pillow_heif
import pytest
import tifffile
from PIL import ExifTags, Image, ImageCms, ImageOps, features

from jaxdeblur.errors import InputError
from jaxdeblur.images import decode
from jaxdeblur.images.decode import decode_image, verify_image
from jaxdeblur.images.opening import count_megapixels
from jaxdeblur.images.photo import SUFFIXES, photo_from_image, read_photo
from jaxdeblur.images.png_chunks import png_chunk
from jaxdeblur.images.save import write_photo
from tests.helpers import tiff_bytes

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (6, 9, 3), np.uint8)
DEEP = RNG.integers(0, 65536, (6, 9, 3), np.uint16)
ALPHA = RNG.integers(0, 65536, (6, 9), np.uint16)
LOSSLESS = {"png": {}, "tif": {}, "bmp": {}, "webp": {"lossless": True}}


@pytest.mark.parametrize("suffix", LOSSLESS)
def test_rgb_is_unchanged(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(RGB).save(path, **LOSSLESS[suffix])
    photo = read_photo(path)
    np.testing.assert_array_equal(photo.pixels, RGB)
    assert (photo.alpha, photo.grey, photo.notes) == (None, False, ())


def test_jpeg_matches_pillow(tmp_path):
    Image.fromarray(RGB).save(tmp_path / "a.jpg")
    np.testing.assert_array_equal(read_photo(tmp_path / "a.jpg").pixels, np.asarray(Image.open(tmp_path / "a.jpg")))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA"])
def test_grey_palette_and_transparency(tmp_path, mode):
    image = Image.fromarray(np.dstack([RGB, ALPHA // 256]).astype(np.uint8), "RGBA")
    image = (image if mode in ("LA", "RGBA") else image.convert("RGB")).convert(mode)
    image.save(tmp_path / "a.png")
    photo = read_photo(tmp_path / "a.png")
    np.testing.assert_array_equal(photo.pixels, np.asarray(image.convert("RGB")))
    assert photo.grey == (mode in ("1", "L", "LA"))
    if mode in ("LA", "RGBA"):
        np.testing.assert_array_equal(photo.alpha, ALPHA // 256)
    else:
        assert photo.alpha is None


@pytest.mark.parametrize("mode", ["P", "RGB", "L"])
def test_a_transparent_colour_becomes_alpha(tmp_path, mode):
    image = Image.new(mode, (2, 1), 0 if mode != "RGB" else (1, 2, 3))
    image.putpixel((1, 0), 7 if mode != "RGB" else (9, 9, 9))
    image.save(tmp_path / "a.png", transparency=0 if mode != "RGB" else (1, 2, 3))
    np.testing.assert_array_equal(read_photo(tmp_path / "a.png").alpha, [[0, 255]])


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_16_bit_grey(tmp_path, suffix):
    Image.fromarray(DEEP[..., 0]).save(tmp_path / f"a.{suffix}")
    photo = read_photo(tmp_path / f"a.{suffix}")
    assert photo.pixels.dtype == np.uint16
    assert photo.grey
    np.testing.assert_array_equal(photo.pixels, np.repeat(DEEP[..., :1], 3, axis=-1))


@pytest.mark.parametrize("alpha", [False, True])
def test_16_bit_png_is_read_at_full_depth(tmp_path, alpha):
    stored = np.dstack([DEEP, ALPHA]) if alpha else DEEP
    cv2.imwrite(str(tmp_path / "a.png"), stored[..., [2, 1, 0, 3][: stored.shape[2]]])
    photo = read_photo(tmp_path / "a.png")
    np.testing.assert_array_equal(photo.pixels, DEEP)
    assert photo.notes == ()
    np.testing.assert_array_equal(photo.alpha, ALPHA if alpha else None)


@pytest.mark.parametrize("alpha", [False, True])
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize(("compression", "predictor"), [(None, None), ("zlib", None), ("zlib", 2)])
def test_16_bit_tiff_is_read_at_full_depth(tmp_path, alpha, order, compression, predictor):
    stored = np.dstack([DEEP, ALPHA]) if alpha else DEEP
    options = {"photometric": "rgb", "compression": compression, "predictor": predictor, "byteorder": order}
    tifffile.imwrite(tmp_path / "a.tif", stored, **options, extrasamples=["unassalpha"] if alpha else None)
    photo = read_photo(tmp_path / "a.tif")
    np.testing.assert_array_equal(photo.pixels, DEEP)
    np.testing.assert_array_equal(photo.alpha, ALPHA if alpha else None)


def test_16_bits_read_at_8_are_noted(tmp_path):
    """Grey with alpha, of which Pillow decodes one byte only."""
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in np.dstack([DEEP[..., 0], ALPHA]))
    header = struct.pack(">2I5B", 9, 6, 16, 4, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*chunk) for chunk in chunks))
    photo = read_photo(tmp_path / "a.png")
    np.testing.assert_array_equal(photo.pixels[..., 0], DEEP[..., 0] // 256)
    np.testing.assert_array_equal(photo.alpha, ALPHA // 256)
    assert photo.notes == ("PNG of 16 bits a channel was read at 8 bits",)


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied(tmp_path, suffix, orientation):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    exif[ExifTags.Base.Model] = "camera"
    Image.fromarray(RGB).save(tmp_path / f"a.{suffix}", exif=exif, **LOSSLESS.get(suffix, {}))
    photo = read_photo(tmp_path / f"a.{suffix}")
    with Image.open(tmp_path / f"a.{suffix}") as image:
        expected = np.asarray(ImageOps.exif_transpose(image))
    assert expected.shape == ((6, 9, 3) if orientation < 5 else (9, 6, 3))
    np.testing.assert_array_equal(photo.pixels, expected)
    kept_exif = Image.Exif()
    kept_exif.load(photo.metadata.exif)
    assert dict(kept_exif) == {ExifTags.Base.Model: "camera"}


def test_orientation_applies_to_alpha_and_both_bytes(tmp_path):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    stored = np.dstack([DEEP, ALPHA])
    content = cv2.imencode(".png", stored[..., [2, 1, 0, 3]])[1].tobytes()
    chunk = png_chunk(b"eXIf", exif.tobytes()[6:])
    (tmp_path / "a.png").write_bytes(content[:33] + chunk + content[33:])
    photo = read_photo(tmp_path / "a.png")
    np.testing.assert_array_equal(photo.pixels, np.rot90(DEEP, -1))
    np.testing.assert_array_equal(photo.alpha, np.rot90(ALPHA, -1))


RIGHT_TOP, MODEL = (274, 3, tiff_bytes.short(6)), (272, 2, b"camera\0")
# EXIF as some cameras, phones and editors write it; the orientation is 6 in all of them.
ODD_EXIF = {
    "plain": [RIGHT_TOP],
    "orientation as BYTE": [(274, 1, b"\6")],
    "orientation as LONG": [(274, 4, tiff_bytes.long(6))],
    "orientation as text": [(274, 2, b"6\0")],
    "orientation as UNDEFINED": [(274, 7, b"\6")],
    "two orientations": [(274, 3, tiff_bytes.short(6, 6))],
    "resolution as text": [RIGHT_TOP, (282, 2, b"text\0")],
    "resolution of 0 / 0": [RIGHT_TOP, (282, 5, bytes(8)), (283, 5, bytes(8)), (296, 3, tiff_bytes.short(2))],
    "unit as text": [RIGHT_TOP, (282, 2, b"text\0"), (283, 2, b"text\0"), (296, 2, b"text\0")],
    "maker as UNDEFINED": [RIGHT_TOP, (271, 7, b"\0\1\2\3\4")],
    "unknown type": [RIGHT_TOP, (305, 99, b"text\0")],
    "directory behind the end": [RIGHT_TOP, (34665, 4, tiff_bytes.long(99999))],
    "GPS as text": [RIGHT_TOP, (34853, 2, b"text\0")],
}


@pytest.mark.filterwarnings("ignore")  # Pillow warns about odd values
@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tif"])
@pytest.mark.parametrize("name", ODD_EXIF)
def test_orientation_is_applied_despite_odd_exif(tmp_path, name, suffix):
    path, entries = tmp_path / f"a.{suffix}", [*ODD_EXIF[name], MODEL]
    if suffix == "tif":
        path.write_bytes(tiff_bytes.tiff(RGB, entries))
    else:
        Image.fromarray(RGB).save(path, exif=tiff_bytes.exif(entries), **LOSSLESS.get(suffix, {}))
    photo = read_photo(path)
    stored = np.asarray(Image.open(path)) if suffix == "jpg" else RGB
    np.testing.assert_array_equal(photo.pixels, np.rot90(stored, -1))
    pixels, orientation = verify_image(path.read_bytes())
    assert orientation == 6
    np.testing.assert_array_equal(pixels, np.rot90(stored, -1))
    for kind in ("png", "tiff", "jpeg", "webp"):
        write_photo(photo, tmp_path / f"b.{kind}", kind, quality=95)
        with Image.open(tmp_path / f"b.{kind}") as image:
            assert image.size == (6, 9)
            assert image.getexif()[272] == "camera"
            assert image.getexif().get(274, 1) == 1
    assert all("EXIF: left out what cannot be read: " in note for note in photo.notes)
    assert bool(photo.notes) == (name in ("resolution as text", "unit as text"))


@pytest.mark.parametrize("orientation", [1, 6])
def test_bigtiff_exif_is_kept(tmp_path, orientation):
    tags = [(274, 3, 1, orientation, False), (272, 2, 0, "camera", False)]
    tifffile.imwrite(tmp_path / "a.tif", RGB, bigtiff=True, photometric="rgb", extratags=tags)
    photo = read_photo(tmp_path / "a.tif")
    np.testing.assert_array_equal(photo.pixels, np.rot90(RGB, -1) if orientation == 6 else RGB)
    assert photo.notes == ()
    kept_exif = Image.Exif()
    kept_exif.load(photo.metadata.exif)
    assert kept_exif[272] == "camera"


@pytest.mark.parametrize("content", [(274, 3, tiff_bytes.short(6)), (274, 1, b"\6")])
def test_image_of_the_caller_keeps_its_exif(content):
    image = Image.open(io.BytesIO(tiff_bytes.tiff(RGB, [content, MODEL])))
    np.testing.assert_array_equal(photo_from_image(image).pixels, np.rot90(RGB, -1))
    np.testing.assert_array_equal(photo_from_image(image).pixels, np.rot90(RGB, -1))
    assert image.getexif()[272] == "camera"


def test_corrupt_png_does_not_pass_for_corrupt_exif(tmp_path):
    Image.fromarray(RNG.integers(0, 256, (90, 90, 3), np.uint8)).save(tmp_path / "a.png")
    content = bytearray((tmp_path / "a.png").read_bytes())
    content[len(content) // 2] ^= 0xFF
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(InputError) as error:
        read_photo(tmp_path / "a.png")
    assert error.value.code in ("image-corrupt", "image-unreadable")


def test_extra_tiff_channels_are_noted(tmp_path):
    five = np.dstack([RGB, RGB[..., :2]])
    tifffile.imwrite(tmp_path / "a.tif", five, photometric="rgb", extrasamples=["unspecified"] * 2)
    photo = read_photo(tmp_path / "a.tif")
    np.testing.assert_array_equal(photo.pixels, RGB)
    assert photo.notes == ("TIFF: 2 extra channel(s), neither colour nor transparency, were left out",)
    tifffile.imwrite(tmp_path / "b.tif", five[..., :4], photometric="rgb", extrasamples=["unassalpha"])
    assert read_photo(tmp_path / "b.tif").notes == ()


SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
GREY_PROFILE = SRGB[:16] + b"GRAY" + SRGB[20:]


@pytest.mark.parametrize("suffix", ["png", "tif", "webp", "jpg"])
@pytest.mark.parametrize("deep", [False, True])
def test_grey_with_an_rgb_profile_is_written_as_rgb(tmp_path, suffix, deep):
    """A profile that does not fit the pixels makes a PNG invalid (ISO/IEC 15948, 11.3.3.3); other programs drop it."""
    grey = DEEP[..., 0] if deep else RGB[..., 0]
    Image.fromarray(grey).save(tmp_path / "a.png", icc_profile=SRGB)
    photo = read_photo(tmp_path / "a.png")
    assert photo.grey
    kind = {"tif": "tiff", "jpg": "jpeg"}.get(suffix, suffix)
    write_photo(photo, tmp_path / f"b.{suffix}", kind, quality=95)
    with Image.open(tmp_path / f"b.{suffix}") as image:
        assert (image.mode, image.info["icc_profile"]) == ("RGB", SRGB)
    rewritten = read_photo(tmp_path / f"b.{suffix}").pixels
    if suffix in ("png", "tif"):
        np.testing.assert_array_equal(rewritten, np.repeat(grey[..., None], 3, axis=-1))


def test_grey_profile_is_kept_for_grey_and_dropped_for_rgb(tmp_path):
    Image.fromarray(RGB[..., 0]).save(tmp_path / "a.jpg", icc_profile=GREY_PROFILE)
    photo = read_photo(tmp_path / "a.jpg")
    assert (photo.metadata.icc, photo.notes) == (GREY_PROFILE, ())
    write_photo(photo, tmp_path / "a.png", "png", quality=95)
    with Image.open(tmp_path / "a.png") as image:
        assert image.mode == "L"
    Image.fromarray(RGB).save(tmp_path / "b.jpg", icc_profile=GREY_PROFILE)
    photo = read_photo(tmp_path / "b.jpg")
    assert photo.metadata.icc == b""
    assert photo.notes == ("the colour profile is for GRAY and was left out: the pixels are RGB",)


def large_png(kind):
    """PNGs with a small text and a profile or text that unpacks to two megabytes, before or after the pixels."""
    text = RNG.integers(97, 123, 2**21, np.uint8).tobytes()
    data = {
        "iCCP": b"name\0\0" + zlib.compress(SRGB + bytes(2**21)),
        "zTXt": b"key\0\0" + zlib.compress(text),
        "iTXt": b"key\0\1\0\0\0" + zlib.compress(text),
        "XMP": b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(b'<x tiff:Orientation="6"/>' + text),
    }[kind]
    chunk = png_chunk(b"iTXt" if kind == "XMP" else kind.encode(), data)
    content = as_bytes(Image.fromarray(RGB), "PNG")
    small = png_chunk(b"tEXt", b"small\0text")
    return content[:33] + small + chunk + content[33:], content[:-12] + chunk + content[-12:]


@pytest.mark.parametrize("kind", ["iCCP", "zTXt", "iTXt", "XMP"])
def test_large_png_profiles_and_texts_are_kept(tmp_path, kind):
    before, after = large_png(kind)
    for content in (before,) if kind == "iCCP" else (before, after):
        (tmp_path / "a.png").write_bytes(content)
        turned = np.rot90(RGB, -1) if kind == "XMP" else RGB
        assert count_megapixels(tmp_path / "a.png") == pytest.approx(54e-6)
        photo = read_photo(tmp_path / "a.png")
        np.testing.assert_array_equal(photo.pixels, turned)
        assert photo.notes == ()
        write_photo(photo, tmp_path / "b.png", "png", quality=95)
        copy = read_photo(tmp_path / "b.png")
        np.testing.assert_array_equal(copy.pixels, turned)
        if kind == "iCCP":
            assert copy.metadata.icc == SRGB + bytes(2**21)
        elif kind == "XMP":
            assert copy.metadata.xmp.startswith(b'<x tiff:Orientation="1"/>')
            assert len(copy.metadata.xmp) == 2**21 + 25
        else:
            assert photo.metadata.chunks == copy.metadata.chunks
            assert max(len(data) for _, data in copy.metadata.chunks) > 2**20
        # As a training image, the text has no effect.
        np.testing.assert_array_equal(verify_image(content)[0], RGB)


def test_profile_bomb_is_left_out_and_noted(tmp_path):
    bomb = png_chunk(b"iCCP", b"name\0\0" + zlib.compress(bytes(2**26 + 1)))
    content = as_bytes(Image.fromarray(RGB), "PNG")
    (tmp_path / "a.png").write_bytes(content[:33] + bomb + content[33:])
    photo = read_photo(tmp_path / "a.png")
    np.testing.assert_array_equal(photo.pixels, RGB)
    assert photo.metadata.icc == b""
    assert photo.notes == ("PNG: the colour profile is larger than 64 MiB or corrupt and was left out",)


@pytest.mark.parametrize("suffix", ["jfif", "jpe", "JFIF"])
def test_jpeg_suffix_variants(tmp_path, suffix):
    Image.fromarray(RGB).save(tmp_path / f"a.{suffix}", "JPEG")
    expected = np.asarray(Image.open(tmp_path / f"a.{suffix}"))
    np.testing.assert_array_equal(read_photo(tmp_path / f"a.{suffix}").pixels, expected)
    assert {f".{suffix.lower()}"} < set(SUFFIXES) & set(decode.SUFFIXES)


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow was built without AVIF")
def test_avif_needs_no_heic_plugin(tmp_path, monkeypatch):
    monkeypatch.setattr("jaxdeblur.images.opening.find_spec", lambda name: None)
    smooth = Image.fromarray(RGB).resize((64, 48), Image.Resampling.BICUBIC)
    exif = tiff_bytes.exif([RIGHT_TOP, MODEL])
    smooth.save(tmp_path / "a.avif", quality=100, subsampling="4:4:4", exif=exif)
    photo = read_photo(tmp_path / "a.avif")
    expected = ImageOps.exif_transpose(Image.open(tmp_path / "a.avif"))
    np.testing.assert_array_equal(photo.pixels, np.asarray(expected))
    assert photo.pixels.shape == (64, 48, 3)
    assert (photo.format, photo.notes) == ("AVIF", ())
    np.testing.assert_array_equal(verify_image((tmp_path / "a.avif").read_bytes())[0], photo.pixels)
    assert {".avif"} < set(SUFFIXES) & set(decode.SUFFIXES)


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow was built without AVIF")
def test_10_bit_avif_is_noted(tmp_path):
    av = pytest.importorskip("av")
    if "libsvtav1" not in av.codecs_available:
        pytest.skip("this FFmpeg cannot write AV1")
    with av.open(str(tmp_path / "a.avif"), "w", format="avif") as file:
        stream = file.add_stream("libsvtav1", rate=1)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p10le"
        frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 99, np.uint8), format="rgb24")
        file.mux([*stream.encode(frame.reformat(format="yuv420p10le")), *stream.encode()])
    assert read_photo(tmp_path / "a.avif").notes == ("AVIF of 10 bits a channel was read at 8 bits",)


PREVIEW = RGB
RAW = {
    "preview": tiff_bytes.tiff(PREVIEW, [(254, 4, tiff_bytes.long(1))]),
    "dng": tiff_bytes.tiff(PREVIEW, [(50706, 1, b"\1\4\0\0")]),
    "nef": tiff_bytes.tiff(PREVIEW, [], below=[(254, 4, tiff_bytes.long(0)), (262, 3, tiff_bytes.short(32803))]),
    "linear": tiff_bytes.tiff(PREVIEW, [], below=[(262, 3, tiff_bytes.short(34892))]),
    "sensor": tiff_bytes.tiff(PREVIEW, [], photometric=32803),
    "cr2": b"II*\0\x10\0\0\0CR\2\0" + bytes(100),
    "cr3": b"\0\0\0\x18ftypcrx " + bytes(100),
    "raf": b"FUJIFILMCCD-RAW 0201" + bytes(100),
    "rw2": b"IIU\0\x18\0\0\0" + bytes(100),
}


@pytest.mark.parametrize("name", RAW)
def test_raw_files_are_refused(tmp_path, name):
    (tmp_path / "a.tif").write_bytes(RAW[name])
    with pytest.raises(InputError, match=r"a\.tif: is a camera raw file") as error:
        read_photo(tmp_path / "a.tif")
    assert error.value.code == "raw-file"
    with pytest.raises(InputError) as error:
        decode_image(RAW[name], "a.tif")
    assert error.value.code == "raw-file"


@pytest.mark.parametrize("name", ["preview", "dng", "nef", "linear"])
def test_raw_files_opened_by_the_caller_are_refused(name):
    with pytest.raises(InputError) as error:
        photo_from_image(Image.open(io.BytesIO(RAW[name])))
    assert error.value.code == "image-kind"


def test_tiff_pyramid_is_not_raw(tmp_path):
    """Its first image is the full one."""
    below = [(254, 4, tiff_bytes.long(1)), (262, 3, tiff_bytes.short(2))]
    (tmp_path / "a.tif").write_bytes(tiff_bytes.tiff(RGB, [(254, 4, tiff_bytes.long(0))], below=below))
    np.testing.assert_array_equal(read_photo(tmp_path / "a.tif").pixels, RGB)


@pytest.mark.parametrize("length", range(0, 200, 7))
def test_truncated_tiff_raises_input_error(tmp_path, length):
    (tmp_path / "a.tif").write_bytes(RAW["nef"][:length])
    with pytest.raises(InputError):
        read_photo(tmp_path / "a.tif")


def test_corrupt_exif_is_left_out_and_noted(tmp_path):
    Image.fromarray(RGB).save(tmp_path / "a.webp", exif=b"Exif\0\0II*\0\xff\xff\xff\xff damaged", lossless=True)
    photo = read_photo(tmp_path / "a.webp")
    np.testing.assert_array_equal(photo.pixels, RGB)
    assert photo.metadata.exif == b""
    assert "EXIF is corrupt" in photo.notes[0]


def save_cmyk(path, profile):
    inverted = Image.fromarray(RNG.integers(0, 256, (6, 9, 4), np.uint8), "CMYK")
    inverted.save(path, **({"icc_profile": profile} if profile else {}))


def test_cmyk_without_a_profile_is_refused(tmp_path):
    save_cmyk(tmp_path / "a.jpg", None)
    with pytest.raises(InputError, match=r"a\.jpg: is CMYK without a colour profile.*convert it to RGB") as error:
        read_photo(tmp_path / "a.jpg")
    assert error.value.code == "cmyk-without-profile"


def test_cmyk_with_an_unusable_profile_is_refused(tmp_path):
    rgb_profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    save_cmyk(tmp_path / "a.tif", rgb_profile)
    with pytest.raises(InputError) as error:
        read_photo(tmp_path / "a.tif")
    assert error.value.code == "cmyk-profile"


def cmyk_profile():
    """A hand-made colour profile (ICC.1:2001-04, 6.5.8 lut8Type): lightness is 100 (1 - C)(1 - M)(1 - Y)(1 - K)."""
    corners = b"".join(bytes([255 if corner == 0 else 0, 128, 128]) for corner in range(16))
    identity = struct.pack(">9i", *(65536 * (i % 4 == 0) for i in range(9)))
    ramp = bytes(range(256))
    table = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + identity + ramp * 4 + corners + ramp * 3
    white = b"XYZ " + bytes(4) + struct.pack(">3i", 63190, 65536, 54061)
    tags = {b"A2B0": table + bytes(-len(table) % 4), b"wtpt": white}
    directory, data, position = struct.pack(">I", len(tags)), b"", 128 + 4 + 12 * len(tags)
    for name, content in tags.items():
        directory += name + struct.pack(">2I", position + len(data), len(content))
        data += content
    length = 128 + len(directory) + len(data)
    header = struct.pack(
        ">I4xI4s4s4s12x4s28x3i", length, 0x02100000, b"prtr", b"CMYK", b"Lab ", b"acsp", 63190, 65536, 54061
    )
    return header.ljust(128, b"\0") + directory + data


def test_cmyk_is_converted_to_srgb_by_its_profile(tmp_path):
    image = Image.new("CMYK", (3, 1), (0, 0, 0, 0))
    image.putpixel((1, 0), (0, 0, 0, 255))
    image.putpixel((2, 0), (0, 0, 0, 128))
    image.save(tmp_path / "a.tif", icc_profile=cmyk_profile())
    photo = read_photo(tmp_path / "a.tif")
    # L* = 49.8 is a grey of 118 in sRGB.
    np.testing.assert_allclose(photo.pixels[0], [[255] * 3, [0] * 3, [118] * 3], atol=1)
    assert photo.notes == ("CMYK was converted to sRGB by its colour profile",)
    assert photo.metadata.icc == b""


def as_bytes(image, file_format, **options):
    file = io.BytesIO()
    image.save(file, file_format, **options)
    return file.getvalue()


MULTIPLE = {"save_all": True, "append_images": [Image.new("RGB", (9, 6), "red")]}
BAD = {
    "empty.png": (b"", "is empty"),
    "text.png": (b"no image at all", "is not an image"),
    "cut.png": (as_bytes(Image.fromarray(RNG.integers(0, 256, (90, 90, 3), np.uint8)), "PNG")[:5000], "truncated"),
    "cut.jpg": (as_bytes(Image.fromarray(RNG.integers(0, 256, (90, 90, 3), np.uint8)), "JPEG")[:2000], "truncated"),
    "cut.bmp": (as_bytes(Image.fromarray(RGB), "BMP")[:-60], "cannot be read"),
    "cut.tif": (as_bytes(Image.fromarray(RGB), "TIFF")[:60], "is not an image|cannot be read"),
    "cut.webp": (as_bytes(Image.fromarray(RGB), "WEBP", lossless=True)[:-40], "is not an image|cannot be read"),
    "a.gif": (as_bytes(Image.fromarray(RGB), "GIF", **MULTIPLE), "is a GIF animation"),
    "still.gif": (as_bytes(Image.fromarray(RGB), "GIF"), "is a GIF; expected a photo"),
    "animated.webp": (as_bytes(Image.fromarray(RGB), "WEBP", **MULTIPLE), r"is a WEBP animation \(2 images\)"),
    "animated.png": (as_bytes(Image.fromarray(RGB), "PNG", **MULTIPLE), "is a PNG animation"),
    "pages.tif": (as_bytes(Image.fromarray(RGB), "TIFF", **MULTIPLE), "TIFF with several pages"),
    "float.tif": (as_bytes(Image.fromarray(RGB[..., 0].astype(np.float32)), "TIFF"), "floating point; convert it"),
    "lab.tif": (as_bytes(Image.new("LAB", (9, 6)), "TIFF"), "LAB values; convert it"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files_are_refused_and_named(tmp_path, name):
    content, message = BAD[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=f"{name}: .*({message})") as error:
        read_photo(tmp_path / name)
    corrupt = "cut" in name or name in ("empty.png", "text.png")
    assert error.value.code in (("image-corrupt", "image-unreadable") if corrupt else ("image-kind",))


def test_missing_files_and_folders_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"gone\.png: cannot be read \(No such file"):
        read_photo(tmp_path / "gone.png")
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(InputError) as error:
        read_photo(tmp_path / "folder.png")
    assert error.value.code == "image-unreadable"


def test_bomb_is_refused_before_decoding_and_100_megapixels_are_not_one(tmp_path):
    """Two PNG headers without pixels: one is refused by its size, the other is truncated."""
    for name, side in (("bomb.png", 50_000), ("large.png", 10_000)):
        header = png_chunk(b"IHDR", struct.pack(">2I5B", side, side, 8, 2, 0, 0, 0))
        empty = png_chunk(b"IDAT", zlib.compress(b"")) + png_chunk(b"IEND", b"")
        (tmp_path / name).write_bytes(b"\x89PNG\r\n\x1a\n" + header + empty)
    limit = Image.MAX_IMAGE_PIXELS
    assert count_megapixels(tmp_path / "bomb.png") == 2500
    with pytest.raises(InputError, match=r"claims 50000x50000 pixels, 2500 megapixels.*--max_megapixels"):
        read_photo(tmp_path / "bomb.png")
    Image.fromarray(RGB).save(tmp_path / "small.png")
    with pytest.raises(InputError, match="limit of 5e-05"):
        read_photo(tmp_path / "small.png", max_megapixels=5e-5)
    assert read_photo(tmp_path / "small.png", max_megapixels=5.4e-5).pixels.shape == (6, 9, 3)
    assert limit == Image.MAX_IMAGE_PIXELS


def test_100_megapixels_are_read_without_a_warning(tmp_path):
    """Pillow warns from 89 megapixels on, for TIFF when decoding too."""
    Image.new("1", (10_000, 10_000), 1).save(tmp_path / "a.tif", compression="group4")
    photo = read_photo(tmp_path / "a.tif")
    assert photo.pixels.shape == (10_000, 10_000, 3)
    assert photo.pixels[::1000].min() == 255


def test_missing_heic_plugin_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("jaxdeblur.images.opening.find_spec", lambda name: None)
    (tmp_path / "a.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(100))
    with pytest.raises(InputError, match=r"HEIC needs pillow-heif.*pip install"):
        read_photo(tmp_path / "a.heic")


def test_heic_orientation_is_applied_once(tmp_path):
    """HEIC stores its own rotation, which the decoder applies; EXIF's orientation is ignored."""
    pillow_heif.register_heif_opener()
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    exif[ExifTags.Base.Model] = "camera"
    smooth = Image.fromarray(RGB).resize((64, 48), Image.Resampling.BICUBIC)
    smooth.save(tmp_path / "a.heic", quality=-1, matrix_coefficients=0, chroma=444, exif=exif)
    photo = read_photo(tmp_path / "a.heic")
    np.testing.assert_array_equal(photo.pixels, np.asarray(smooth))
    assert photo.notes == ()
    kept_exif = Image.Exif()
    kept_exif.load(photo.metadata.exif)
    assert dict(kept_exif) == {ExifTags.Base.Model: "camera"}


def test_first_heic_file_has_its_megapixels(tmp_path, monkeypatch):
    """Before anything else has registered the plug-in."""
    pillow_heif.register_heif_opener()
    Image.fromarray(RGB).resize((64, 48)).save(tmp_path / "a.heic")
    monkeypatch.delitem(Image.OPEN, "HEIF")
    monkeypatch.setattr(Image, "ID", [name for name in Image.ID if name != "HEIF"])
    assert count_megapixels(tmp_path / "a.heic") == pytest.approx(64 * 48e-6)


def test_10_bit_heic_is_noted(tmp_path):
    deep = pillow_heif.from_bytes("RGB;16", (48, 64), bytes(48 * 64 * 6))
    deep.save(tmp_path / "a.heic", quality=90)
    notes = read_photo(tmp_path / "a.heic").notes
    assert len(notes) == 1
    assert "bits a channel was read at 8 bits" in notes[0]


def test_large_images_are_converted_in_strips(tmp_path, monkeypatch):
    monkeypatch.setattr("jaxdeblur.images.pillow_reading._STRIP_PIXELS", 20)
    Image.fromarray(RGB).convert("P").save(tmp_path / "a.png", transparency=0)
    photo = read_photo(tmp_path / "a.png")
    expected = np.asarray(Image.open(tmp_path / "a.png").convert("RGBA"))
    np.testing.assert_array_equal(np.dstack([photo.pixels, photo.alpha]), expected)


def test_images_without_a_file():
    photo = photo_from_image(Image.fromarray(RGB))
    np.testing.assert_array_equal(photo.pixels, RGB)
