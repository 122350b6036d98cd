"""The before-and-after page: images and numbers of each photograph, in one self-contained file."""

import base64
import io
import re

import numpy as np
from PIL import Image

from jaxdeblur.report.before_after import Comparison, write_before_after


def comparison(name, *, restored_error, size=(40, 60)):
    """Return a comparison of uniform images; the blurred one is off by 20 levels."""
    sharp = np.full((*size, 3), 100, np.uint8)
    return Comparison(name, "a <short> shake", sharp + np.uint8(20), sharp + np.uint8(restored_error), sharp)


def write(path, comparisons):
    return write_before_after(comparisons, path, title="Before & after", introduction=("Two <b>",), network="tiny@1")


def test_the_page_states_the_psnr_of_both_images_and_the_gain(tmp_path):
    """By hand: an error of 20 levels is 20 log10(255 / 20) = 22.11 dB, one of 10 is 28.13, of 40 is 16.09."""
    path = tmp_path / "folder" / "page.html"
    verdict = write(path, [comparison("cat", restored_error=10), comparison("dog", restored_error=40)])
    assert verdict == "tiny@1: 22.11 dB blurred, 22.11 dB restored (+0.00 dB), mean of 2 images, of which 1 improved."
    page = path.read_text()
    rows = [re.findall(r"<td>(.+?)</td>", row) for row in re.findall(r"<tr>(.+?)</tr>", page)[1:]]
    assert rows == [["22.11", "28.13", "+6.02"], ["22.11", "16.09", "-6.02"]]
    assert verdict in page


def test_the_page_shows_three_images_and_requests_nothing(tmp_path):
    one = comparison("cat", restored_error=10)
    write(tmp_path / "page.html", [one])
    page = (tmp_path / "page.html").read_text()
    wholes = re.findall(r'<div class="whole"><img src="data:image/png;base64,(.+?)"', page)
    shown = [np.asarray(Image.open(io.BytesIO(base64.b64decode(whole)))) for whole in wholes]
    for image, expected in zip(shown, (one.blurred, one.restored, one.sharp), strict=True):
        np.testing.assert_array_equal(image, expected)
    assert page.count('class="slider"') == 1
    assert "Two &lt;b&gt;" in page
    assert "a &lt;short&gt; shake" in page
    assert not re.search(r'(src|href)="(?!data:|#)', page)


def test_a_large_photograph_is_downscaled(tmp_path):
    write(tmp_path / "page.html", [comparison("wide", restored_error=10, size=(50, 800))])
    page = (tmp_path / "page.html").read_text()
    whole = re.search(r'<div class="whole"><img src="data:image/jpeg;base64,(.+?)"', page)[1]
    assert Image.open(io.BytesIO(base64.b64decode(whole))).size == (640, 40)
