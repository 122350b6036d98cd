"""Batches overlap reading, restoring and writing in bounded memory, and always terminate."""

import threading
import time

import numpy as np
import pytest
from PIL import Image

from jaxdeblur.console import StopRequest
from jaxdeblur.images.resize import resize_bicubic
from jaxdeblur.restoration import batch
from jaxdeblur.restoration.batch import Processing, Progress, Result, restore_photos
from jaxdeblur.restoration.jobs import Job
from jaxdeblur.restoration.resume_record import Record
from tests.helpers.images import save_noise

PLAIN = Processing(resize=0, side_by_side=False, quality=95, max_megapixels=1.0)


def copy(image, progress):
    """A fake network that returns its input."""
    progress(0.25)
    progress(0.75)
    return image.copy()


@pytest.fixture
def jobs(tmp_path):
    for number in range(6):
        save_noise(tmp_path / f"{number}.png", (30, 20))
    return [Job(tmp_path / f"{number}.png", tmp_path / "out" / f"{number}.png", "png") for number in range(6)]


def run(jobs, restorers=(copy,), processing=PLAIN, stop=None, **options):
    """Restore all photos; return all events."""
    return list(restore_photos(jobs, restorers, processing, stop=StopRequest() if stop is None else stop, **options))


def results(events):
    return [event for event in events if isinstance(event, Result)]


def test_each_photo_has_one_result_and_its_progress(jobs):
    events = run(jobs)
    assert [result.job for result in results(events)] == jobs
    progress = [event for event in events if isinstance(event, Progress)]
    assert sum(event.photos for event in progress) == 6
    assert sum(event.megapixels for event in progress) == pytest.approx(6 * 600e-6)


def test_the_next_photo_is_read_before_the_previous_one_is_written(jobs, monkeypatch):
    """The first write waits until the third photo is read, while the second is in the network."""
    third_is_read = threading.Event()
    read, write = batch.read_photo, batch.write_photo

    def watched_read(path, **options):
        photo = read(path, **options)
        if path == jobs[2].source:
            third_is_read.set()
        return photo

    def watched_write(*arguments, **options):
        assert third_is_read.wait(30)
        return write(*arguments, **options)

    monkeypatch.setattr(batch, "read_photo", watched_read)
    monkeypatch.setattr(batch, "write_photo", watched_write)
    assert [result.error for result in results(run(jobs))] == [""] * 6


@pytest.mark.parametrize(("megapixels", "expected"), [(1e-9, 1), (1.3e-3, 2)])
@pytest.mark.parametrize("devices", [1, 2])
def test_photos_in_memory_are_limited_per_device(jobs, monkeypatch, devices, megapixels, expected):
    """Each has 600 pixels; without a limit a device would hold three of them."""
    in_memory, maximum, lock = 0, 0, threading.Lock()
    read, write = batch.read_photo, batch.write_photo

    def counted_read(path, **options):
        nonlocal in_memory, maximum
        with lock:
            in_memory += 1
            maximum = max(maximum, in_memory)
        return read(path, **options)

    def counted_write(*arguments, **options):
        nonlocal in_memory
        time.sleep(0.02)
        losses = write(*arguments, **options)
        with lock:
            in_memory -= 1
        return losses

    monkeypatch.setattr(batch, "read_photo", counted_read)
    monkeypatch.setattr(batch, "write_photo", counted_write)
    events = run(jobs, [copy] * devices, megapixels_per_device=megapixels)
    assert len(results(events)) == 6
    assert maximum <= expected * devices
    assert devices > 1 or maximum == expected


@pytest.mark.parametrize("devices", [2, 3])
def test_all_devices_restore_large_photos_at_once(jobs, devices):
    """The budget of one device does not hold two photos of 600 pixels; those of several devices do."""
    barrier, arrived = threading.Barrier(devices), []

    def meet(image, progress):
        if len(arrived) < devices:
            arrived.append(image)
            barrier.wait(timeout=10)
        return image

    events = run(jobs, [meet] * devices, megapixels_per_device=1e-3)
    assert [result.error for result in events] == [""] * 6


def test_two_commands_on_the_same_photos_both_succeed(jobs, tmp_path):
    (tmp_path / "out").mkdir()
    barrier, events = threading.Barrier(2), []

    def restore_all():
        def in_step(image, progress):
            barrier.wait(timeout=10)
            return image

        events.append(run(jobs, [in_step], record=Record(tmp_path / "out", {})))

    threads = [threading.Thread(target=restore_all) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [[result.error for result in results] for results in events] == [[""] * 6] * 2
    assert all(Record(tmp_path / "out", {}).is_done(job) for job in jobs)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        *(job.target.name for job in jobs),
        "restored.jsonl",
    ]


class _Bug(Exception):
    """A bug in a network, the reader or the writer."""


@pytest.mark.parametrize("seed", range(40))
def test_every_batch_terminates(tmp_path, monkeypatch, seed):
    """With random devices, sizes, and time of a stop request or bug; no photo is lost or restored twice."""
    rng = np.random.default_rng(seed)
    devices, count = int(rng.integers(1, 5)), int(rng.integers(1, 10))
    ending = ["none", "stop", "network", "writer", "reader"][seed % 5]
    when, calls, lock = int(rng.integers(1, count + 1)), 0, threading.Lock()
    jobs = [Job(tmp_path / f"{i}.png", tmp_path / f"out/{i}.png", "png") for i in range(count)]
    for job in jobs:
        save_noise(job.source, tuple(rng.integers(5, 60, 2).tolist()))
    budget, pause, stop = float(rng.choice([1e-9, 1e-3, 2e-3, 6e-3])), float(rng.uniform(0, 4e-3)), StopRequest()

    def ending_in(step, function):
        """Return the function, or one whose `when`th call ends the batch if this is the step to do so."""

        def ending_function(*arguments, **options):
            nonlocal calls
            time.sleep(pause)
            result = function(*arguments, **options)
            with lock:
                calls += 1
                due = calls == when
            if due and step == "stop":
                stop.received_at = 0.0
            elif due:
                raise _Bug
            return result

        return ending_function if ending == step else function

    monkeypatch.setattr(batch, "read_photo", ending_in("reader", batch.read_photo))
    monkeypatch.setattr(batch, "write_photo", ending_in("writer", batch.write_photo))
    network = ending_in("network", ending_in("stop", copy))
    outcome = []

    def restore_all():
        try:
            outcome.append(run(jobs, [network] * devices, stop=stop, megapixels_per_device=budget))
        except _Bug as error:
            outcome.append(error)

    thread = threading.Thread(target=restore_all, daemon=True)
    thread.start()
    thread.join(20)
    assert outcome, f"hangs: {devices} devices, {ending} at call {when}"
    if ending in ("network", "writer", "reader"):
        assert isinstance(outcome[0], _Bug)
        return
    done = [result.job for result in results(outcome[0])]
    assert len(done) == len(set(done))
    assert all(job.target.exists() == (job in done) for job in jobs)
    assert set(done) == set(jobs) if ending == "none" else len(done) >= when


def test_a_stop_request_finishes_what_is_in_progress(jobs):
    stop, images = StopRequest(), []

    def request_stop(image, progress):
        images.append(image)
        if len(images) == 2:
            stop.received_at = 0.0
        return image

    assert [result.job for result in run(jobs, (request_stop,), stop=stop)] == jobs[:2]
    assert [job.target.exists() for job in jobs] == [True, True, False, False, False, False]


def test_a_caller_that_stops_iterating_stops_the_batch(jobs):
    events = restore_photos(jobs, [copy], PLAIN, stop=StopRequest())
    next(events)
    events.close()
    assert 1 <= sum(job.target.exists() for job in jobs) < 6


def test_a_bug_is_raised(jobs):
    def fail(image, progress):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run(jobs, (fail,))


def test_running_out_of_memory_fails_one_photo(jobs):
    first = batch.read_photo(jobs[0].source).pixels[0, 0].tolist()

    def exhaust_memory(image, progress):
        if image[0, 0].tolist() == first:
            raise MemoryError
        return image

    errors = [result.error for result in run(jobs, (exhaust_memory,))]
    assert sorted(errors) == [*[""] * 5, f"{jobs[0].source}: not enough memory"]


def test_alpha_is_resized_and_repeated_like_the_pixels(tmp_path):
    values = np.random.default_rng(0).integers(0, 256, (20, 30, 4), np.uint8)
    Image.fromarray(values, "RGBA").save(tmp_path / "a.png")
    processing = Processing(resize=16, side_by_side=True, quality=95, max_megapixels=1.0)
    run([Job(tmp_path / "a.png", tmp_path / "b.png", "png")], processing=processing)
    alpha = np.asarray(Image.fromarray(values[..., 3]).resize((16, 16), Image.Resampling.BICUBIC))
    with Image.open(tmp_path / "b.png") as image:
        result = np.asarray(image)
    assert result.shape == (16, 32, 4)
    np.testing.assert_allclose(result[..., 3].astype(int), np.hstack([alpha, alpha]), atol=1)


def test_16_bit_images_are_resized_at_full_depth():
    values = np.random.default_rng(0).integers(0, 65536, (20, 30, 3), np.uint16)
    resized = resize_bicubic(values, 16)
    assert resized.dtype == np.uint16
    coarse = Image.fromarray((values // 257).astype(np.uint8)).resize((16, 16), Image.Resampling.BICUBIC)
    np.testing.assert_allclose(
        resized / 257, np.asarray(coarse), atol=4
    )  # 8-bit values are truncated, then rounded twice
