"""Reading, restoring and writing overlap, in bounded memory, and every batch ends."""

import threading
import time

import numpy as np
import pytest
from PIL import Image

from jaxdeblur.console import StopRequest
from jaxdeblur.restoration import batch as batch_restoration
from jaxdeblur.restoration.batch import Batch, Progress, Result, Treatment, resize_bicubic
from jaxdeblur.restoration.resume_record import Job, Record
from tests.helpers.images import save_noise

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


def run(jobs, restorers=(copy,), treatment=PLAIN, request=None, **options):
    batch = Batch(jobs, restorers, treatment, None, **options)
    return list(batch.results(StopRequest() if request is None else request))


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
@pytest.mark.parametrize("devices", [1, 2])
def test_large_photographs_wait_for_each_other(jobs, monkeypatch, devices, megapixels, most):
    """Each has 600 pixels; without a limit a device would hold three of them."""
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
        time.sleep(0.02)
        lost = write(*arguments, **options)
        with lock:
            inside -= 1
        return lost

    monkeypatch.setattr(batch_restoration, "read_photo", watched_read)
    monkeypatch.setattr(batch_restoration, "write_photo", watched_write)
    events = run(jobs, [copy] * devices, megapixels_per_device=megapixels)
    assert sum(isinstance(event, Result) for event in events) == 6
    assert highest <= most * devices
    assert devices > 1 or highest == most


@pytest.mark.parametrize("devices", [2, 3])
def test_all_devices_work_at_once_on_large_photographs(jobs, devices):
    """Two photographs of 600 pixels do not fit in the memory of one device; those of several devices do."""
    barrier = threading.Barrier(devices)

    def meeting(image, progress):
        if len(met) < devices:
            met.append(image)
            barrier.wait(timeout=10)
        return image

    met = []
    results = run(jobs, [meeting] * devices, megapixels_per_device=1e-3)
    assert [result.error for result in results] == [""] * 6


def test_two_commands_over_the_same_photographs_both_succeed(jobs, tmp_path):
    (tmp_path / "out").mkdir()
    barrier, found = threading.Barrier(2), []

    def follow():
        def together(image, progress):
            barrier.wait(timeout=10)
            return image

        record = Record(tmp_path / "out", {})
        found.append(list(Batch(jobs, [together], PLAIN, record).results(StopRequest())))

    threads = [threading.Thread(target=follow) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [[event.error for event in events] for events in found] == [[""] * 6] * 2
    assert all(Record(tmp_path / "out", {}).is_done(job) for job in jobs)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        *(job.target.name for job in jobs),
        "restored.jsonl",
    ]


class _Broken(Exception):
    """Stands for a bug in a network or a writer."""


@pytest.mark.parametrize("seed", range(40))
def test_every_batch_ends(tmp_path, monkeypatch, seed):
    """Any number of devices, sizes, and time of a stop or of a bug; no photograph is lost or restored twice."""
    rng = np.random.default_rng(seed)
    devices, number = int(rng.integers(1, 5)), int(rng.integers(1, 10))
    ending = ["none", "stop", "network", "writer", "reader"][seed % 5]
    when, calls, lock = int(rng.integers(1, number + 1)), 0, threading.Lock()
    jobs = [Job(tmp_path / f"{i}.png", tmp_path / f"out/{i}.png", "png") for i in range(number)]
    for job in jobs:
        save_noise(job.source, tuple(rng.integers(5, 60, 2).tolist()))
    budget, pause, request = float(rng.choice([1e-9, 1e-3, 2e-3, 6e-3])), float(rng.uniform(0, 4e-3)), StopRequest()

    def at(place, function):
        """Return a function that also ends the batch when it is called for the `when`th time."""

        def ending_function(*arguments, **options):
            nonlocal calls
            time.sleep(pause)
            result = function(*arguments, **options)
            with lock:
                calls += 1
                due = calls == when
            if due and place == "stop":
                request.received_at = 0.0
            elif due:
                raise _Broken
            return result

        return ending_function if ending == place else function

    monkeypatch.setattr(batch_restoration, "read_photo", at("reader", batch_restoration.read_photo))
    monkeypatch.setattr(batch_restoration, "write_photo", at("writer", batch_restoration.write_photo))
    network = at("network", at("stop", copy))
    ended = []

    def follow():
        try:
            ended.append(run(jobs, [network] * devices, request=request, megapixels_per_device=budget))
        except _Broken as error:
            ended.append(error)

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    thread.join(20)
    assert ended, f"hangs: {devices} devices, {ending} at call {when}"
    if ending in ("network", "writer", "reader"):
        assert isinstance(ended[0], _Broken)
        return
    done = [event.job for event in ended[0] if isinstance(event, Result)]
    assert len(done) == len(set(done))
    assert all(job.target.exists() == (job in done) for job in jobs)
    assert set(done) == set(jobs) if ending == "none" else len(done) >= when


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
