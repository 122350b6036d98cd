"""A run belongs to one process: a second one is refused, and a killed one leaves nothing behind."""

import errno
import fcntl
import subprocess
import sys

import pytest

from jaxdeblur.errors import InputError
from jaxdeblur.run_lock import RunLock

HOLD = """
import sys, time
from pathlib import Path
from jaxdeblur.run_lock import RunLock
lock = RunLock(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(60)
"""


def test_a_second_owner_is_refused_until_the_first_is_killed(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", HOLD, tmp_path], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "held\n"
        with pytest.raises(InputError, match=f"in use by process {process.pid} on ") as found:
            RunLock(tmp_path)
        assert found.value.code == "run-locked"
    finally:
        process.kill()
        process.communicate()
    RunLock(tmp_path).release()


def test_a_released_lock_can_be_taken_again(tmp_path):
    lock = RunLock(tmp_path)
    with pytest.raises(InputError, match="in use"):
        RunLock(tmp_path)
    lock.release()
    lock.release()
    RunLock(tmp_path).release()


def test_a_file_system_without_locks_is_said(tmp_path, monkeypatch, capsys):
    def flock(descriptor, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    RunLock(tmp_path).release()
    assert "this file system has no locks" in capsys.readouterr().err
