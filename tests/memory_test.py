"""Memory, counted by the pages that the system hands out and by what stays with the process."""

import os
import platform
import subprocess
import sys

import pytest

from jaxdeblur.memory import _HUGE_PAGES

FILL = """
import resource, sys
from jaxdeblur.memory import set_up_memory, start_with_huge_pages
print("begun", *sys.argv[1:])
if sys.argv[1] == "huge":
    start_with_huge_pages()
import numpy as np
set_up_memory()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
np.ones(2**24, np.float32)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
needs_glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="it is glibc that is told")


def run(code, *arguments, **environment):
    # Huge pages are otherwise what NumPy asks for itself, and what this process may have been started with.
    clean = {key: value for key, value in os.environ.items() if key != "GLIBC_TUNABLES"}
    command = [sys.executable, "-c", code, *arguments]
    environment = clean | {"NUMPY_MADVISE_HUGEPAGE": "0"} | environment
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.split("\n")[:-1]


@needs_glibc
@pytest.mark.skipif(
    not _HUGE_PAGES.exists() or "[madvise]" not in _HUGE_PAGES.read_text(),
    reason="this system does not give huge pages to those alone who ask for them",
)
def test_a_program_starts_anew_for_huge_pages_once():
    first, second, pages = run(FILL, "huge", "and an argument")
    assert first == second == "begun huge and an argument"
    assert int(pages) < 1_000
    (first, pages) = run(FILL, "ordinary")
    assert int(pages) > 10_000  # 64 MiB in pages of 4 KiB are 16,384


@needs_glibc
def test_the_users_own_tunables_are_left_alone():
    assert len(run(FILL, "huge", GLIBC_TUNABLES="glibc.malloc.hugetlb=0")) == 2


RESIDENT = """
import re
from pathlib import Path
import numpy as np
from jaxdeblur.memory import return_freed_memory, set_up_memory

def resident():
    return int(re.search(r"VmRSS:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])

set_up_memory()
start = resident()
"""
STEPS = """
kept = []
for step in range(20):
    large = np.ones(2**24, np.float32)
    kept.append(np.ones(2**10, np.float32))  # would settle in the large one's place
    del large
    kept.append(np.ones(2**10, np.float32))
print(resident() - start)
"""
RETURN = """
small = [np.ones(2**20, np.float32) for _ in range(16)]
kept = np.ones(2**10, np.float32)
del small
before = resident()
return_freed_memory()
print(before - start, before - resident())
"""


@needs_glibc
def test_memory_stays_flat_over_steps():
    (grown,) = run(RESIDENT + STEPS)
    assert int(grown) < 16_384  # KiB; a large array has 65,536


@needs_glibc
def test_what_small_arrays_leave_is_kept_until_it_is_given_back():
    ((kept, returned),) = (line.split() for line in run(RESIDENT + RETURN))
    assert int(kept) > 60_000  # KiB; the arrays had 65,536
    assert int(returned) > 60_000
