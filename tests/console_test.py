"""Signal handling in a real process, and closed stderr."""

import os
import signal
import subprocess
import sys
import time

import pytest

from jaxdeblur.console import stop_on_signal

PROGRAM = """
import sys, time
from jaxdeblur.console import say, stop_on_signal
with stop_on_signal() as stop:
    print("ready", flush=True)
    while not stop:
        time.sleep(0.01)
    say("stopping")
    time.sleep(float(sys.argv[1]))
print("done", flush=True)
"""


def start(seconds, **options):
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(seconds)], stdout=subprocess.PIPE, text=True, **options
    )
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_first_signal_requests_stop_and_double_tap_counts_once(number):
    process = start(0.5, stderr=subprocess.PIPE)
    process.send_signal(number)
    time.sleep(0.2)
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (0, "done\n")
    assert err.count("Stopping after this step") == 1


@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
def test_later_signal_exits_immediately(second):
    process = start(60, stderr=subprocess.PIPE)
    process.send_signal(signal.SIGINT)
    time.sleep(1.2)
    process.send_signal(second)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (130, "")
    assert "resumes from the last checkpoint" in err


def test_closed_stderr_is_ignored():
    """As with `2>&1 | tee log`, where the same Ctrl-C kills tee."""
    reader, writer = os.pipe()
    process = start(0.1, stderr=writer)
    os.close(writer)
    os.close(reader)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=30)
    assert out == "done\n"


def test_handlers_are_restored():
    before = signal.getsignal(signal.SIGTERM)
    with stop_on_signal():
        assert signal.getsignal(signal.SIGTERM) != before
    assert signal.getsignal(signal.SIGTERM) == before
