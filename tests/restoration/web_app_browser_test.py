"""The web page in headless Chromium: upload, slider and download."""

import http.client
import io
import os
import shutil
import signal
import socket
import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pytest
from PIL import ExifTags, Image
from random_weights import random_tensor

from jaxdeblur.models import build_model
from jaxdeblur.restoration.restorer import load_restorer
from jaxdeblur.weights.safetensors import write_weights
from jaxdeblur.weights.tensors import network_shapes

playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install '.[test]'")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs chromium: apt-get install chromium"),
    pytest.mark.skipif(find_spec("gradio") is None, reason="needs gradio: pip install '.[demo]'"),
]
# Runs the page as `python -m` does, and logs the addresses and host names it connects to.
WATCHED = """
import runpy, sys
noted, sys.argv = open(sys.argv[1], "a", buffering=1), sys.argv[1:]
def note(event, arguments):
    if event in ("socket.connect", "socket.sendto", "socket.getaddrinfo", "socket.gethostbyname"):
        noted.write(f"{arguments[0] if 'get' in event else arguments[1]}\\n")
sys.addaudithook(note)
runpy.run_module("jaxdeblur.demo", run_name="__main__", alter_sys=True)
"""


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A small network whose results look nothing like the photo."""
    shapes, tree = network_shapes(build_model("transformnet", width=4, num_blocks=1)), {}
    for name, shape in shapes.items():
        *path, leaf = name.split("/")
        branch = tree
        for part in path:
            branch = branch.setdefault(part, {})
        branch[leaf] = np.ones(shape, np.float32) if leaf == "var" else random_tensor(name, shape[::-1]).transpose()
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    write_weights(path, tree, {"network": "transformnet"})
    return path


class Server:
    """The running command.

    Attributes:
        address: of the page.
        temporary: folder for uploads.
        output: the first line printed.
        connections: addresses and host names it connected to.
    """

    def __init__(self, weights, folder):
        self.temporary, self._log = folder / "temporary", folder / "connections.txt"
        self.temporary.mkdir()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        options = ("--weights", weights, "--port", self.port, "--max_megabytes", 2, "--max_megapixels", 1)
        command = [sys.executable, "-c", WATCHED, self._log, *options]
        # A proxy that must not be used for the page itself.
        environment = {**os.environ, "TMPDIR": str(self.temporary), "HTTP_PROXY": "http://192.0.2.1:9"}
        self.process = subprocess.Popen(list(map(str, command)), env=environment, stdout=subprocess.PIPE, text=True)
        self.output = self.process.stdout.readline()
        self.address = f"http://127.0.0.1:{self.port}/"

    @property
    def connections(self):
        return set(self._log.read_text().splitlines())


@pytest.fixture(scope="module")
def server(weights, tmp_path_factory):
    server = Server(weights, tmp_path_factory.mktemp("server"))
    yield server
    server.process.terminate()
    server.process.communicate(timeout=60)


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as engines:
        # Chromium's sandbox does not work in containers.
        browser = engines.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser, server):
    """The open page; `page.requests` are the URLs it requested."""
    page = browser.new_page(viewport={"width": 1000, "height": 1100})
    page.requests = []
    page.on("request", lambda request: page.requests.append(request.url))
    page.goto(server.address)
    yield page
    page.close()


def upload(page, path):
    page.set_input_files("input[type=file]", path)


def download(page):
    """Return the pixels and the name of the downloaded file."""
    with page.expect_download() as event:
        page.get_by_text("Download PNG").click()
    with Image.open(event.value.path()) as image:
        assert image.format == "PNG"
        return np.asarray(image), event.value.suggested_filename


def slider_images(page):
    """Return the pixels of the two images, before and after."""
    images = page.locator(".slider-wrap img").all()
    assert len(images) == 2
    for image in images:
        content = page.request.get(image.get_attribute("src")).body()
        yield np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))


def test_a_real_frame_is_restored_shown_and_downloaded(page, server, weights, real_gopro):
    frame = sorted(real_gopro.glob("test/*/blur/*.png"))[0]
    upload(page, frame)
    page.get_by_text("1280 x 720 pixels, restored in").wait_for(timeout=120_000)
    blurred = np.asarray(Image.open(frame).convert("RGB"))
    expected = load_restorer(weights)(blurred)
    assert np.abs(expected.astype(int) - blurred).mean() > 10
    downloaded, name = download(page)
    np.testing.assert_array_equal(downloaded, expected)
    assert name == f"{frame.stem}_restored.png"
    before, after = slider_images(page)
    np.testing.assert_array_equal(before, blurred)
    np.testing.assert_array_equal(after, expected)
    assert {url for url in page.requests if not url.startswith((server.address, "data:", "blob:"))} == set()
    assert server.connections <= {"127.0.0.1", f"('127.0.0.1', {server.port})"}


def test_the_slider_moves(page, tmp_path):
    Image.new("RGB", (640, 320), "blue").save(tmp_path / "blue.png")
    upload(page, tmp_path / "blue.png")
    page.get_by_text("640 x 320 pixels, restored in").wait_for(timeout=120_000)

    def blue_fraction():
        row = np.asarray(Image.open(io.BytesIO(frame.screenshot())).convert("RGB")).astype(int)[60]
        return np.mean((row[:, 2] > 240) & (row[:, 0] < 15))

    frame = page.locator(".slider-wrap")
    assert blue_fraction() == pytest.approx(0.5, abs=0.03)
    box = frame.bounding_box()
    middle = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + box["width"] / 2, middle)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.2, middle, steps=5)
    page.mouse.up()
    assert blue_fraction() == pytest.approx(0.2, abs=0.04)


def test_a_rotated_photo_becomes_upright(page, tmp_path):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    Image.new("RGB", (64, 48), "green").save(tmp_path / "rotated.jpg", exif=exif)
    upload(page, tmp_path / "rotated.jpg")
    page.get_by_text("48 x 64 pixels, restored in").wait_for(timeout=120_000)
    assert download(page)[0].shape == (64, 48, 3)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("notes.txt", "notes.txt: is "),
        ("cut.png", "cut.png: cannot be read"),
        ("large.png", "claims 1100x1000 pixels, 1 megapixels, more than the limit of 1"),
        ("heavy.png", 'exceed the maximum allowed size of 2.0 Mb: "heavy.png"'),
    ],
)
def test_errors_are_shown_and_the_next_photo_is_restored(name, message, page, tmp_path):
    path, noise = tmp_path / name, np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "good.png")
    if name == "large.png":
        Image.new("RGB", (1100, 1000)).save(path)
    else:
        good = (tmp_path / "good.png").read_bytes()
        path.write_bytes({"notes.txt": b"no image", "cut.png": good[:5000], "heavy.png": bytes(2_200_000)}[name])
    upload(page, path)
    page.locator(".toast-body").get_by_text(message).wait_for(timeout=30_000)
    assert str(tmp_path) not in page.locator(".toast-body").inner_text()
    page.locator(".toast-close").click()
    upload(page, tmp_path / "good.png")
    page.get_by_text("80 x 60 pixels, restored in").wait_for(timeout=120_000)


def test_only_this_machine_is_served(server):
    with socket.create_connection(("127.0.0.1", server.port), timeout=5):
        pass
    with pytest.raises(OSError, match="refused"):  # another of this machine's addresses
        socket.create_connection(("127.0.0.2", server.port), timeout=5)


def test_the_size_limit_also_holds_for_direct_requests(server):
    boundary, content = "line", bytes(2_200_000)
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="files"; filename="heavy.png"\r\n\r\n'
    body = head.encode() + content + f"\r\n--{boundary}--\r\n".encode()
    kind = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    for data, status in ((body, 413), (body.replace(content, b"few bytes"), 200)):
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
        connection.request("POST", "/gradio_api/upload", data, kind)
        assert connection.getresponse().status == status
        connection.close()


def test_no_files_remain_after_the_server_ends(weights, browser, tmp_path):
    server = Server(weights, tmp_path)
    assert server.output == f"The page is at {server.address} until Ctrl-C.\n"
    page = browser.new_page()
    page.goto(server.address)
    Image.new("RGB", (64, 48), "green").save(tmp_path / "photo.png")
    upload(page, tmp_path / "photo.png")
    page.get_by_text("64 x 48 pixels, restored in").wait_for(timeout=120_000)
    page.close()
    assert len({path.name for path in server.temporary.rglob("photo*.png")}) == 2
    server.process.send_signal(signal.SIGTERM)
    server.process.communicate(timeout=60)
    assert server.process.returncode == 0
    assert not [path for path in server.temporary.rglob("*") if path.is_file()]


def test_a_port_in_use_is_named(weights):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        command = [sys.executable, "-m", "jaxdeblur.demo", "--weights", str(weights), "--port", str(port)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"error: --host 127.0.0.1, --port {port}: " in done.stderr
