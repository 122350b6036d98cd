"""Reuse of freed memory, measured by page faults and resident memory."""

import platform
import subprocess
import sys

import pytest

from jaxdeblur.runtime import malloc

FILL = """
import resource, sys
import numpy as np
from jaxdeblur.runtime.malloc import keep_freed_memory
if sys.argv[1] == "kept":
    keep_freed_memory()
np.ones(2**24, np.float32)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
np.ones(2**24, np.float32)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="tunes glibc")
def test_a_second_array_reuses_the_pages_of_the_first():
    def pages(mode):
        # With huge pages, which NumPy requests, one page fault would cover 512 pages.
        environment = {"NUMPY_MADVISE_HUGEPAGE": "0", "PATH": ""}
        command = [sys.executable, "-c", FILL, mode]
        return int(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)

    assert pages("given back") > 10_000  # 64 MiB in pages of 4 KiB are 16,384
    assert pages("kept") < 1_000


RETURN = """
import re
from pathlib import Path
import numpy as np
from jaxdeblur.runtime.malloc import keep_freed_memory, return_freed_memory

def resident():
    return int(re.search(r"VmRSS:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])

keep_freed_memory()
np.ones(2**24, np.float32)
before = resident()
return_freed_memory()
print(before - resident())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="tunes glibc")
def test_free_memory_can_be_returned_to_the_system():
    command = [sys.executable, "-c", RETURN]
    returned = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert returned > 60_000  # KiB; the array had 65,536


@pytest.mark.parametrize(("largest", "threshold"), [(2**31, 2**30), (2**25, 2**25), (0, None)])
def test_a_threshold_rejected_by_older_glibc_is_lowered_or_left_unset(largest, threshold):
    """M_MMAP_THRESHOLD is -3 and M_TRIM_THRESHOLD -1 in glibc's malloc.h; mallopt(3) returns 0 for a rejected value."""
    accepted = {}

    def mallopt(parameter, value):
        if parameter == -3 and value > largest:
            return 0
        accepted[parameter] = value
        return 1

    malloc._set_thresholds(mallopt)
    assert accepted == ({-3: threshold, -1: -1} if threshold else {})
