"""Random values of exposures: ranges and shares; downscaling and JPEG compression."""

import dataclasses

import numpy as np
import pytest
import skimage.data
from PIL import Image

from jaxdeblur.errors import InputError
from jaxdeblur.synthesis import capture
from jaxdeblur.synthesis.capture import Capture, CaptureRules

WIDE = CaptureRules(
    still_share=0.1,
    reduce=(1.0, 4.0),
    reduce_after=(1.0, 3.0),
    shot_noise=(0.001, 0.1),
    read_noise=(0.0001, 0.01),
    noise_blur=(0.2, 1.0),
    noise_free_share=0.3,
    jpeg_quality=(60, 90),
    jpeg_share=0.4,
    domain_mix=0.25,
)


def draw(rules, count=2000):
    return [capture.sample_capture(np.random.default_rng([seed, 1]), rules) for seed in range(count)]


def test_defaults_have_no_effect():
    assert set(draw(CaptureRules(), 200)) <= {Capture(), Capture(chroma="4:2:2")}
    photo = np.zeros((4, 5, 3), np.uint8)
    assert capture.reduce_image(photo, capture.reduced_size((4, 5), 1.0)) is photo


def test_shares():
    drawn = draw(WIDE)
    for name, share in (("still", 0.1), ("jpeg_quality", 0.4), ("linear", 0.25), ("shot_noise", 0.7)):
        assert np.mean([bool(getattr(one, name)) for one in drawn]) == pytest.approx(share, abs=0.035)
    assert {one.shot_noise == 0 for one in drawn if one.read_noise == 0} == {True}
    compressed = [one for one in drawn if one.jpeg_quality]
    assert np.mean([one.chroma == "4:2:2" for one in compressed]) == pytest.approx(0.25, abs=0.05)
    assert {one.chroma for one in drawn} == {"4:2:0", "4:2:2"}


def test_factors_and_noise_are_log_uniform():
    """Logarithms are uniform: mean in the middle, standard deviation length / sqrt(12)."""
    drawn = draw(WIDE)
    for name in ("reduce", "reduce_after", "shot_noise", "read_noise"):
        least, most = getattr(WIDE, name)
        logs = np.log([getattr(one, name) for one in drawn if getattr(one, name)])
        assert logs.min() >= np.log(least)
        assert logs.max() <= np.log(most)
        assert logs.mean() == pytest.approx(np.log(least * most) / 2, abs=0.04 * np.log(most / least))
        assert logs.std() == pytest.approx(np.log(most / least) / np.sqrt(12), rel=0.05)


def test_shot_and_read_noise_are_correlated():
    noises = np.log([(one.shot_noise, one.read_noise) for one in draw(WIDE) if one.shot_noise])
    assert np.corrcoef(noises.T)[0, 1] == pytest.approx(1)


def test_qualities_cover_their_range():
    qualities = {one.jpeg_quality for one in draw(WIDE)} - {0}
    assert min(qualities) == 60
    assert max(qualities) == 90
    assert len(qualities) == 31


def test_options_do_not_change_other_draws():
    for name, value in (("still_share", 0.9), ("jpeg_share", 0.0), ("noise_free_share", 0.0), ("reduce", (1.0, 2.0))):
        changed = draw(dataclasses.replace(WIDE, **{name: value}), 50)
        for one, other in zip(draw(WIDE, 50), changed, strict=True):
            assert (one.reduce_after, one.linear, one.chroma) == (other.reduce_after, other.linear, other.chroma)


def test_single_values_are_exact():
    rules = CaptureRules(shot_noise=(0.003, 0.003), reduce=(1.7, 1.7), jpeg_quality=(81, 81), jpeg_share=1.0)
    for one in draw(rules, 20):
        assert (one.shot_noise, one.reduce, one.jpeg_quality) == (0.003, 1.7, 81)


def test_downscaling_is_antialiased():
    """A wave of 32 pixels becomes one of 16; one of 2.5 pixels, too fine for half the size, becomes grey."""
    column = np.arange(160)
    coarse, fine = (np.rint(127.5 + 100 * np.sin(2 * np.pi * column / length)) for length in (32, 2.5))
    image = np.tile(np.concatenate([coarse, fine])[np.newaxis, :, np.newaxis], (40, 1, 3)).astype(np.uint8)
    small = capture.reduce_image(image, (20, 160)).astype(float)
    expected = 127.5 + 100 * np.sin(2 * np.pi * (np.arange(80) * 2 + 0.5) / 32)
    assert np.abs(small[:, 4:76] - expected[4:76, np.newaxis]).max() < 4
    assert np.abs(small[:, 84:156] - 127.5).max() < 12


def test_compression_loses_more_at_lower_quality_and_in_chroma():
    photo = skimage.data.astronaut()[:128, 128:256]
    high, low = (capture.compress(photo, quality, "4:2:0").astype(float) for quality in (95, 40))
    errors = [((image - photo) ** 2).mean() for image in (high, low)]
    assert 0 < errors[0] < errors[1] < 200
    grey = np.repeat(photo[..., 1:2], 3, axis=2)
    assert ((capture.compress(grey, 95, "4:2:0").astype(float) - grey) ** 2).mean() < errors[0]
    fine = capture.compress(photo, 95, "4:4:4").astype(float)
    half = capture.compress(photo, 95, "4:2:2").astype(float)
    losses = [((image - photo) ** 2).mean() for image in (fine, half, high)]
    assert losses == sorted(losses)


def test_compression_halves_chroma_resolution():
    """Columns of red and cyan of equal luma, one pixel wide: separate in 4:4:4, but not in 4:2:2 and 4:2:0."""
    image = np.zeros((32, 32, 3), np.uint8)
    image[:, ::2], image[:, 1::2] = (200, 62, 62), (50, 126, 126)
    assert np.ptp(capture.compress(image, 100, "4:4:4")[16, :, 0].astype(int)) > 120
    for chroma in ("4:2:2", "4:2:0"):
        assert np.ptp(capture.compress(image, 100, chroma)[16, :, 0].astype(int)) < 30
    rows = np.ascontiguousarray(image.swapaxes(0, 1))
    assert np.ptp(capture.compress(rows, 100, "4:2:2")[:, 16, 0].astype(int)) > 120


def test_compression_equals_a_file_round_trip(tmp_path):
    photo = skimage.data.astronaut()[:64, :64]
    Image.fromarray(photo).save(tmp_path / "photo.jpg", quality=77, subsampling=2)
    stored = np.asarray(Image.open(tmp_path / "photo.jpg"))
    np.testing.assert_array_equal(capture.compress(photo, 77, "4:2:0"), stored)


@pytest.mark.parametrize(
    ("field", "value", "code"),
    [
        ("still_share", 1.5, "share-out-of-range"),
        ("noise_free_share", -0.1, "share-out-of-range"),
        ("jpeg_share", float("nan"), "share-out-of-range"),
        ("domain_mix", 2.0, "share-out-of-range"),
        ("shot_noise", (0.0, 0.1), "range-out-of-range"),
        ("read_noise", (0.2, 0.1), "range-out-of-range"),
        ("reduce", (0.5, 2.0), "range-out-of-range"),
        ("reduce_after", (2.0, 1.0), "range-out-of-range"),
        ("noise_blur", (-1.0, 1.0), "range-out-of-range"),
        ("jpeg_quality", (0, 90), "range-out-of-range"),
        ("jpeg_quality", (50, 101), "range-out-of-range"),
    ],
)
def test_values_out_of_range_are_refused(field, value, code):
    with pytest.raises(InputError, match=field) as caught:
        CaptureRules(**{field: value})
    assert caught.value.code == code
