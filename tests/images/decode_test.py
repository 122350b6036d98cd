"""Training images decoded to uint8 RGB, against hand-computed values, Pillow's transposition and tifffile."""

import io
import struct
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageOps

from jaxdeblur.errors import InputError
from jaxdeblur.images.decode import decode_image, read_image, verify_image

GREY, RGB, PALETTE, GREY_ALPHA, RGBA = 0, 2, 3, 4, 6  # PNG's colour types
NOISE = np.random.default_rng(0).integers(0, 256, (12, 10, 3), np.uint8)


def png(
    values: np.ndarray, depth: int, colour: int, *, before: dict | None = None, after: dict | None = None, size=None
) -> bytes:
    """Build a PNG from rows of packed bytes or of 8- or 16-bit values, with chunks before and after the pixels."""
    rows = values.astype(">u2").view(np.uint8) if values.dtype == np.uint16 else values
    rows = rows.reshape(len(values), -1)
    data = b"".join(b"\0" + row.tobytes() for row in rows)
    header = struct.pack(">IIBBBBB", *(size or values.shape[1::-1]), depth, colour, 0, 0, 0)
    chunks = {b"IHDR": header, **(before or {}), b"IDAT": zlib.compress(data), **(after or {}), b"IEND": b""}
    packed = (
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks.items()
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


def encode(image: Image.Image | np.ndarray, kind: str, **options) -> bytes:
    file = io.BytesIO()
    image = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    image.save(file, kind, **options)
    return file.getvalue()


def tiff(values: np.ndarray, **options) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, values, **options)
    return file.getvalue()


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("PNG", {}),
        ("WEBP", {"lossless": True}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("TIFF", {"compression": "tiff_adobe_deflate"}),
    ],
)
def test_8_bit_rgb_is_unchanged(kind, options):
    pixels = decode_image(encode(NOISE, kind, **options), "x")
    assert (pixels.dtype, pixels.shape) == (np.uint8, (12, 10, 3))
    np.testing.assert_array_equal(pixels, NOISE)


def test_jpeg_is_decoded_whatever_its_suffix(tmp_path):
    (tmp_path / "photo.PNG").write_bytes(encode(NOISE, "JPEG", quality=95))
    pixels = read_image(tmp_path / "photo.PNG")
    np.testing.assert_array_equal(pixels, np.asarray(Image.open(tmp_path / "photo.PNG")))


U8, U16 = np.uint8, np.uint16
PALETTE_3 = {b"PLTE": bytes([10, 20, 30, 40, 50, 60, 255, 0, 1])}


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        # grey, 8 bits and fewer
        (png(np.array([[0, 7, 255]], U8), 8, GREY), [[0] * 3, [7] * 3, [255] * 3]),
        (png(np.array([[0b10100000]], U8), 1, GREY, size=(3, 1)), [[255] * 3, [0] * 3, [255] * 3]),
        (png(np.array([[0b00011011]], U8), 2, GREY, size=(4, 1)), [[0] * 3, [85] * 3, [170] * 3, [255] * 3]),
        # palettes, 8 and 2 bits
        (png(np.array([[2, 0, 1]], U8), 8, PALETTE, before=PALETTE_3), [[255, 0, 1], [10, 20, 30], [40, 50, 60]]),
        (png(np.array([[0b01001000]], U8), 2, PALETTE, before=PALETTE_3, size=(2, 1)), [[40, 50, 60], [10, 20, 30]]),
        # transparency blended over black: 100 * 51 / 255 = 20; 3 * 128 / 255 = 1.51; 201 * 127 / 255 = 100.1
        (png(np.array([[[100, 51], [100, 255], [9, 0]]], U8), 8, GREY_ALPHA), [[20] * 3, [100] * 3, [0] * 3]),
        (png(np.array([[[200, 3, 50, 128], [201, 1, 2, 127]]], U8), 8, RGBA), [[100, 2, 25], [100, 0, 1]]),
        (png(np.array([[[200, 3, 50, 255]]], U8), 8, RGBA), [[200, 3, 50]]),
        (
            png(np.array([[0, 1, 2]], U8), 8, PALETTE, before={**PALETTE_3, b"tRNS": bytes([0, 51])}),
            [[0, 0, 0], [8, 10, 12], [255, 0, 1]],
        ),
        (png(np.array([[7, 8]], U8), 8, GREY, before={b"tRNS": b"\0\x07"}), [[0] * 3, [8] * 3]),
        (
            png(np.array([[[7, 8, 9], [7, 8, 8]]], U8), 8, RGB, before={b"tRNS": b"\0\x07\0\x08\0\x09"}),
            [[0, 0, 0], [7, 8, 8]],
        ),
        # 16 bits: upper byte
        (png(np.array([[255, 256, 511, 65535]], U16), 16, GREY), [[0] * 3, [1] * 3, [1] * 3, [255] * 3]),
        (png(np.array([[[255, 256, 65535], [65279, 65280, 0]]], U16), 16, RGB), [[0, 1, 255], [254, 255, 0]]),
        (png(np.array([[[51200, 65535, 25855, 65535]]], U16), 16, RGBA), [[200, 255, 100]]),
        (png(np.array([[[51200, 65535, 25855, 13056]]], U16), 16, RGBA), [[40, 51, 20]]),  # alpha 51
        (png(np.array([[[25855, 13056]]], U16), 16, GREY_ALPHA), [[20] * 3]),
    ],
)
def test_pngs_are_converted_to_rgb(content, expected):
    pixels = decode_image(content, "x")
    assert pixels.dtype == np.uint8
    np.testing.assert_array_equal(pixels, [expected])


@pytest.mark.parametrize(
    ("values", "options"),
    [
        (NOISE, {"photometric": "rgb"}),
        (NOISE, {"photometric": "rgb", "rowsperstrip": 3, "compression": "zlib", "predictor": True}),
        (NOISE * U16(257), {"photometric": "rgb"}),
        (NOISE * U16(257), {"photometric": "rgb", "byteorder": ">"}),
        (NOISE * U16(256) + U16(255), {"photometric": "rgb", "compression": "zlib", "predictor": True}),
        (NOISE[..., 0] * U16(257), {"photometric": "minisblack"}),
        (NOISE[..., 0] * U16(256) + U16(255), {"photometric": "minisblack", "byteorder": ">"}),
        (NOISE[..., 0], {"photometric": "minisblack"}),
        (255 - NOISE[..., 0], {"photometric": "miniswhite"}),
    ],
)
def test_tiff_with_8_and_16_bits(values, options):
    expected = NOISE if values.ndim == 3 else NOISE[..., :1].repeat(3, -1)
    np.testing.assert_array_equal(decode_image(tiff(values, **options), "x"), expected)


def test_16_bits_scaled_up_from_8_are_restored_exactly():
    every = np.arange(256, dtype=np.uint16).reshape(16, 16) * 257
    for content in (png(every, 16, GREY), tiff(every), png(every[..., None].repeat(3, -1), 16, RGB)):
        np.testing.assert_array_equal(decode_image(content, "x")[..., 0], np.arange(256).reshape(16, 16))


@pytest.mark.parametrize(
    ("content", "description"),
    [
        (encode(Image.new("CMYK", (4, 4)), "JPEG"), "JPEG of CMYK values"),
        (encode(Image.new("LAB", (4, 4)), "TIFF"), "TIFF of LAB values"),
        (tiff(np.ones((4, 4), np.float32)), "TIFF of floating point"),
        (tiff(np.ones((4, 4), np.int32)), "TIFF of 32-bit or signed integers"),
        (tiff(np.ones((4, 4), np.int16)), "TIFF of 32-bit or signed integers"),
        (tiff(np.ones((4, 4), U16), photometric="miniswhite"), "16-bit TIFF with white as zero"),
        (tiff(np.ones((3, 4, 4), U16), photometric="rgb", planarconfig="separate"), "TIFF stored plane by plane"),
        (tiff(np.ones((3, 4, 4), U8), photometric="minisblack"), "TIFF of 3 images"),
        (encode(NOISE, "PNG", save_all=True, append_images=[Image.new("RGB", (10, 12))]), "PNG of 2 images"),
        (encode(NOISE, "WEBP", save_all=True, append_images=[Image.new("RGB", (10, 12))]), "WEBP of 2 images"),
        (png(np.array([[0b00011011]], U8), 2, GREY, size=(4, 1), before={b"tRNS": b"\0\x01"}), "transparent colour"),
        (png(np.array([[0b00011011]], U8), 1, GREY, size=(8, 1), before={b"tRNS": b"\0\x01"}), "transparent colour"),
        (png(np.array([[7]], U16), 16, GREY, before={b"tRNS": b"\0\x07"}), "transparent colour"),
        (png(np.array([[[7, 8, 9]]], U16), 16, RGB, before={b"tRNS": b"\0\x07\0\x08\0\x09"}), "transparent colour"),
        (encode(NOISE, "GIF"), "not a PNG, JPEG, WebP, TIFF or AVIF"),
    ],
)
def test_ambiguous_kinds_are_refused(content, description):
    with pytest.raises(InputError, match=rf"^here.png: .*{description}.*Replace it with a good copy") as error:
        decode_image(content, "here.png")
    assert error.value.code == ("image-corrupt" if "not a" in description else "image-kind")


def test_12_bit_grey_is_refused():
    """Pillow does not scale its values, up to 4095, which as 16 bits would be nearly black."""
    content = bytearray(tiff(np.ones((4, 4), U16)))
    bits_per_sample = struct.pack("<HHI", 258, 3, 1)
    at = content.index(bits_per_sample) + len(bits_per_sample)
    content[at] = 12
    with pytest.raises(InputError, match="grey TIFF of 12 bits"):
        decode_image(bytes(content), "x")


def test_first_picture_of_a_multi_picture_file_is_read():
    content = encode(NOISE, "MPO", save_all=True, append_images=[Image.new("RGB", (2, 2))])
    assert Image.open(io.BytesIO(content)).n_frames == 2
    np.testing.assert_array_equal(decode_image(content, "x"), np.asarray(Image.open(io.BytesIO(content))))


# Upright form of [[1, 2, 3], [4, 5, 6]] by orientation (EXIF 2.32, tag 274).
UPRIGHT = {
    1: [[1, 2, 3], [4, 5, 6]],
    2: [[3, 2, 1], [6, 5, 4]],
    3: [[6, 5, 4], [3, 2, 1]],
    4: [[4, 5, 6], [1, 2, 3]],
    5: [[1, 4], [2, 5], [3, 6]],
    6: [[4, 1], [5, 2], [6, 3]],
    7: [[6, 3], [5, 2], [4, 1]],
    8: [[3, 6], [2, 5], [1, 4]],
}


def exif(orientation: int) -> bytes:
    tags = Image.Exif()
    tags[274] = orientation
    return tags.tobytes()


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_orientation_is_applied(orientation):
    stored = np.array([[1, 2, 3], [4, 5, 6]], np.uint8)
    colour = stored[..., None].repeat(3, -1)
    body = exif(orientation).removeprefix(b"Exif\0\0")
    tag = [(274, "H", 1, orientation, False)]
    for content in (
        encode(colour, "PNG", exif=exif(orientation)),
        png(stored, 8, GREY, after={b"eXIf": body}),  # after the pixels
        encode(colour, "WEBP", exif=exif(orientation), lossless=True),
        tiff(colour, photometric="rgb", extratags=tag),
        tiff(colour, photometric="rgb", extratags=tag, compression="zlib"),
        tiff(stored * U16(257), extratags=tag),
    ):
        pixels, applied = verify_image(content)
        assert applied == orientation
        np.testing.assert_array_equal(pixels[..., 1], UPRIGHT[orientation])


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_jpeg_orientation_matches_pillow(orientation):
    content = encode(NOISE, "JPEG", exif=exif(orientation))
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(content)))
    np.testing.assert_array_equal(decode_image(content, "x"), np.asarray(expected))


@pytest.mark.parametrize("orientation", [0, 9])
def test_invalid_orientations_are_ignored(orientation):
    pixels, applied = verify_image(encode(NOISE, "PNG", exif=exif(orientation)))
    assert applied == 1
    np.testing.assert_array_equal(pixels, NOISE)


@pytest.mark.parametrize("content", [b"", b"no image at all", png(np.zeros((1, 1), U8), 8, GREY, size=(60000, 60000))])
def test_corrupt_images_are_named(content):
    with pytest.raises(InputError, match=r"^a/b.png: cannot be read as an image \(.*\)\. Replace it") as error:
        decode_image(content, "a/b.png")
    assert error.value.code == "image-corrupt"


def test_decompression_bomb_is_named():
    with pytest.raises(InputError, match=r"3600000000 pixels.*decompression bomb"):
        decode_image(png(np.zeros((1, 1), U8), 8, GREY, size=(60000, 60000)), "x")


def test_png_truncated_anywhere_is_detected():
    content = encode(NOISE, "PNG")
    for length in range(len(content)):
        with pytest.raises(InputError):
            verify_image(content[:length])


def test_png_with_any_byte_changed_is_detected():
    content = encode(NOISE[:4, :4], "PNG")
    for i in range(len(content)):
        changed = bytearray(content)
        changed[i] ^= 0x41
        with pytest.raises(InputError):
            verify_image(bytes(changed))


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "TIFF"])
def test_other_truncated_formats_are_detected(kind):
    content = encode(NOISE, kind)
    for length in (3, len(content) // 2, len(content) - 3):
        with pytest.raises(InputError) as error:
            decode_image(content[:length], "x")
        assert error.value.code == "image-corrupt"


def test_missing_files_are_named(tmp_path):
    with pytest.raises(InputError, match=r"gone.png: cannot be read \(No such file or directory\)") as error:
        read_image(tmp_path / "gone.png")
    assert error.value.code == "image-unreadable"
