"""Memory that is freed and allocated again."""

import subprocess
import sys

import pytest

from keras_genmodels.core import allocator

# In a process of its own, as the setting holds for all that follows.
SCRIPT = """
import concurrent.futures, resource, runpy, sys
import numpy as np

def steps():
    before = resource.getrusage(resource.RUSAGE_THREAD).ru_minflt
    for _ in range(5):
        [np.ones(2**15) for _ in range(400)]
    return resource.getrusage(resource.RUSAGE_THREAD).ru_minflt - before

with concurrent.futures.ThreadPoolExecutor(1) as thread:
    thread.submit(steps).result()
    default = thread.submit(steps).result()
    runpy.run_path(sys.argv[1])["keep_freed_memory"]()
    thread.submit(steps).result()
    print(default, thread.submit(steps).result())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="of the GNU C library")
def test_freed_memory_is_used_again():
    command = [sys.executable, "-c", SCRIPT, allocator.__file__]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    default, kept = map(int, run.stdout.split())
    # Pages may have 2 MiB.
    assert default > 100
    assert kept < default / 10


def test_other_c_libraries_stay_as_they_are(monkeypatch):
    monkeypatch.setattr(allocator.ctypes, "CDLL", lambda _: object())
    allocator.keep_freed_memory()
