"""Headless Chromium opens a report and moves its sliders by mouse and keyboard."""

import io
import shutil

import numpy as np
import pytest
from PIL import Image

from jaxdeblur.report import write_report
from tests.helpers.report_records import draw, image_record, write_evaluation, write_facts

playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install '.[test]'")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium: apt-get install chromium")
NAME = 'Straße "1" <script>document.title = "run"</script> \' x'


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    folder = tmp_path_factory.mktemp("browser")
    runs = []
    for i, name in enumerate(("first", 'a "b" <i>')):
        run = folder / name
        write_facts(run)
        images = [image_record(NAME, f"{frame}", 24.0, 25.0 + frame * i) for frame in range(4)]
        pictures = {}
        for frame in range(2):
            blur, _, sharp = draw(np.random.default_rng(frame), 64, 96, 0)
            prediction = np.full_like(blur, 255 * i)  # the first network's image is black, the other's white
            pictures[NAME, f"{frame}"] = (("spread", "best", "worst")[: 1 + frame], blur, prediction, sharp)
        write_evaluation(run, images, pictures)
        runs.append(run)
    return write_report(runs, folder / 'report "1"').as_uri()


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as engines:
        # No sandbox: in a container Chromium has none to use.
        browser = engines.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser, address):
    """Yield the opened report; `page.messages` is the console output, `page.requests` the requests."""
    page = browser.new_page(viewport={"width": 1000, "height": 900})
    page.messages, page.requests = [], []
    page.on("console", lambda message: page.messages.append(message.text))
    page.on("pageerror", lambda error: page.messages.append(str(error)))
    page.on("request", lambda request: page.requests.append(request.url))
    page.goto(address)
    yield page
    page.close()


def look(page, locator):
    """Return a screenshot of an element as an array, (H, W, 3)."""

    return np.asarray(Image.open(io.BytesIO(locator.screenshot())).convert("RGB")).astype(int)


def share_of_left(page, frame):
    """Return the fraction of columns that show the left image, which is black; the right one is white."""
    row = look(page, frame)[20].sum(-1)
    return np.mean(row < 30)


def test_the_page_opens_without_messages_or_requests(page, address):
    assert page.messages == []
    assert [url for url in page.requests if not url.startswith("data:")] == [address]
    assert "run" not in page.title().split()
    assert page.evaluate("[...document.images].filter(image => !image.complete || !image.naturalWidth).length") == 0
    assert NAME in page.inner_text("main")
    assert page.locator(".slider").count() == 2
    assert page.locator(".slider").first.is_visible()


def test_the_slider_moves_by_mouse_and_keyboard(page):
    slider = page.locator(".slider").first
    slider.locator("select").nth(0).select_option(label="first")
    slider.locator("select").nth(1).select_option(label='a "b" <i>')
    frame, thumb = slider.locator(".frame"), slider.locator("input")
    frame.scroll_into_view_if_needed()
    assert share_of_left(page, frame) == pytest.approx(0.5, abs=0.02)
    box = frame.bounding_box()
    middle = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + box["width"] / 2, middle)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.2, middle, steps=5)
    page.mouse.up()
    assert share_of_left(page, frame) == pytest.approx(0.2, abs=0.03)
    page.mouse.click(box["x"] + box["width"] * 0.8, middle)
    assert share_of_left(page, frame) == pytest.approx(0.8, abs=0.03)
    thumb.press("Home")
    assert share_of_left(page, frame) < 0.02
    for _ in range(30):
        thumb.press("ArrowRight")
    assert thumb.input_value() == "30"
    assert share_of_left(page, frame) == pytest.approx(0.3, abs=0.02)
    thumb.press("ArrowLeft")
    assert thumb.get_attribute("aria-valuetext").startswith("29%")
    assert page.messages == []


def test_the_slider_is_reachable_by_keyboard(page):
    page.locator(".slider select").nth(1).focus()
    page.keyboard.press("Tab")
    page.keyboard.press("End")
    assert page.evaluate("document.activeElement.type") == "range"
    assert page.locator(".slider input").first.input_value() == "100"


def test_print_has_both_images_and_no_slider(page):
    page.emulate_media(media="print")
    assert not page.locator(".slider").first.is_visible()
    images = page.locator("figure.strip").first.locator(".whole")
    for kind in ("blurred input", "first", "sharp"):
        assert images.get_by_alt_text(f"{NAME} / 0: {kind}", exact=True).is_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_and_plots_are_readable_in_light_and_dark(page, scheme):
    page.emulate_media(color_scheme=scheme)
    paper = look(page, page.locator("h1"))[0, -1].mean()
    assert paper > 240 if scheme == "light" else paper < 40
    for part in (page.locator("h1"), page.locator(".plots svg").first):
        seen = look(page, part).mean(-1)
        strongest = seen.min() if scheme == "light" else seen.max()
        assert abs(strongest - paper) > 150


def test_on_a_phone_tables_scroll_instead_of_the_page(page):
    page.set_viewport_size({"width": 400, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") == 400
    assert page.locator(".frame").first.bounding_box()["width"] > 300
