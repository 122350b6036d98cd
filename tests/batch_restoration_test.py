"""Reading, the network and writing go on at once, and no more photographs are in memory than may be."""

import threading

import numpy as np
import pytest
from conftest import save_noise
from PIL import Image

from jaxdeblur import batch_restoration
from jaxdeblur.batch_restoration import Batch, Progress, Result, Treatment, resize_bicubic
from jaxdeblur.console import StopRequest
from jaxdeblur.outputs import Job

PLAIN = Treatment(resize=0, side_by_side=False, quality=95, max_megapixels=1.0)


def copy(image, progress):
    """Stands for a network."""
    progress(0.25)
    progress(0.75)
    return image.copy()


@pytest.fixture
def jobs(tmp_path):
    for number in range(6):
        save_noise(tmp_path / f"{number}.png", (30, 20))
    return [Job(tmp_path / f"{number}.png", tmp_path / "out" / f"{number}.png", "png") for number in range(6)]


def run(jobs, restorers=(copy,), treatment=PLAIN, request=None):
    return list(Batch(jobs, restorers, treatment, None).results(StopRequest() if request is None else request))


def test_each_photograph_has_one_result_and_its_progress(jobs):
    events = run(jobs)
    assert [event.job for event in events if isinstance(event, Result)] == jobs
    progress = [event for event in events if isinstance(event, Progress)]
    assert sum(event.photographs for event in progress) == 6
    assert sum(event.megapixels for event in progress) == pytest.approx(6 * 600e-6)


def test_the_next_is_read_before_the_last_is_written(jobs, monkeypatch):
    """The first write waits until the third is read, while the second is in the network."""
    third_is_read = threading.Event()
    read, write = batch_restoration.read_photo, batch_restoration.write_photo

    def watched_read(path, **options):
        photo = read(path, **options)
        if path == jobs[2].source:
            third_is_read.set()
        return photo

    def watched_write(*arguments, **options):
        assert third_is_read.wait(30)
        return write(*arguments, **options)

    monkeypatch.setattr(batch_restoration, "read_photo", watched_read)
    monkeypatch.setattr(batch_restoration, "write_photo", watched_write)
    assert [event.error for event in run(jobs) if isinstance(event, Result)] == [""] * 6


@pytest.mark.parametrize(("megapixels", "most"), [(1e-9, 1), (1.3e-3, 2)])
def test_large_photographs_wait_for_each_other(jobs, monkeypatch, megapixels, most):
    """Each has 600 pixels; two lines would hold up to six of them."""
    monkeypatch.setattr(batch_restoration, "MEGAPIXELS_AT_ONCE", megapixels)
    inside, highest, lock = 0, 0, threading.Lock()
    read, write = batch_restoration.read_photo, batch_restoration.write_photo

    def watched_read(path, **options):
        nonlocal inside, highest
        with lock:
            inside += 1
            highest = max(highest, inside)
        return read(path, **options)

    def watched_write(*arguments, **options):
        nonlocal inside
        with lock:
            inside -= 1
        return write(*arguments, **options)

    monkeypatch.setattr(batch_restoration, "read_photo", watched_read)
    monkeypatch.setattr(batch_restoration, "write_photo", watched_write)
    events = run(jobs, (copy, copy))
    assert sum(isinstance(event, Result) for event in events) == 6
    assert highest == most


def test_a_request_to_stop_ends_after_what_is_under_way(jobs):
    request, seen = StopRequest(), []

    def stopping(image, progress):
        seen.append(image)
        if len(seen) == 2:
            request.received_at = 0.0
        return image

    results = [event for event in run(jobs, (stopping,), request=request) if isinstance(event, Result)]
    assert [result.job for result in results] == jobs[:2]
    assert [job.target.exists() for job in jobs] == [True, True, False, False, False, False]


def test_a_mistake_of_ours_is_raised_and_not_listed(jobs):
    def wrong(image, progress):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run(jobs, (wrong,))


def test_memory_that_does_not_suffice_fails_one_photograph(jobs):
    def short(image, progress):
        if image[0, 0].tolist() == first:
            raise MemoryError
        return image

    first = batch_restoration.read_photo(jobs[0].source).pixels[0, 0].tolist()
    results = [event for event in run(jobs, (short,)) if isinstance(event, Result)]
    assert [result.error for result in results if result.error] == [
        f"{jobs[0].source}: there is not enough memory for it"
    ]
    assert sum(not result.error for result in results) == 5


def test_alpha_is_resized_and_set_beside_itself_like_the_pixels(tmp_path):
    values = np.random.default_rng(0).integers(0, 256, (20, 30, 4), np.uint8)
    Image.fromarray(values, "RGBA").save(tmp_path / "a.png")
    treatment = Treatment(resize=16, side_by_side=True, quality=95, max_megapixels=1.0)
    run([Job(tmp_path / "a.png", tmp_path / "b.png", "png")], treatment=treatment)
    alpha = np.asarray(Image.fromarray(values[..., 3]).resize((16, 16), Image.Resampling.BICUBIC))
    with Image.open(tmp_path / "b.png") as image:
        found = np.asarray(image)
    assert found.shape == (16, 32, 4)
    np.testing.assert_allclose(found[..., 3].astype(int), np.hstack([alpha, alpha]), atol=1)


def test_resize_of_16_bits():
    values = np.random.default_rng(0).integers(0, 65536, (20, 30, 3), np.uint16)
    found = resize_bicubic(values, 16)
    assert found.dtype == np.uint16
    coarse = Image.fromarray((values // 257).astype(np.uint8)).resize((16, 16), Image.Resampling.BICUBIC)
    np.testing.assert_allclose(found / 257, np.asarray(coarse), atol=4)  # it is rounded twice, and down before
