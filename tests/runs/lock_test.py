"""One process owns a run: a second one is refused, and a killed one leaves no lock behind."""

import errno
import fcntl
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from jaxdeblur.errors import InputError
from jaxdeblur.files import read_json, write_json
from jaxdeblur.runs.lock import RunLock, wait_for_lock

HOLD = """
import sys, time
from pathlib import Path
from jaxdeblur.runs.lock import RunLock
lock = RunLock(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(60)
"""


def test_a_second_owner_is_refused_until_the_first_is_killed(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", HOLD, tmp_path], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "held\n"
        with pytest.raises(InputError, match=f"in use by process {process.pid} on ") as error:
            RunLock(tmp_path)
        assert error.value.code == "run-locked"
    finally:
        process.kill()
        process.communicate()
    RunLock(tmp_path).release()


def test_a_released_lock_can_be_taken_again(tmp_path):
    lock = RunLock(tmp_path)
    with pytest.raises(InputError) as error:
        RunLock(tmp_path)
    assert error.value.code == "run-locked"
    lock.release()
    lock.release()
    RunLock(tmp_path).release()


def test_a_file_system_without_locks_gives_a_warning(tmp_path, monkeypatch, capsys):
    def flock(descriptor, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    RunLock(tmp_path).release()
    assert "does not support locks" in capsys.readouterr().err


def test_waiting_for_the_lock_loses_no_update(tmp_path):
    """Threads read, extend and rewrite one list, as the history of test evaluations is written."""
    path = tmp_path / "list.json"
    write_json(path, [])

    def append(number):
        with wait_for_lock(tmp_path):
            write_json(path, [*read_json(path), number])

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(append, range(40)))
    assert sorted(read_json(path)) == list(range(40))
