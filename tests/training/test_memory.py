"""Freed memory stays with the process while it trains, and no longer."""

import json
import platform
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the settings are glibc's")

# in a process of its own, since glibc's thresholds no longer adapt afterwards
SCRIPT = """
import json, resource
from mien.training import memory

PAGES = 64 * 2**20 // resource.getpagesize()

def resident():
    return int(open("/proc/self/statm").read().split()[1]) / PAGES

def faults(blocks):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(blocks):
        b"x" * (64 * 2**20)
    return (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / blocks / PAGES

plain, rest = faults(10), resident()
with memory.kept():
    b"x" * (64 * 2**20)
    kept, held = faults(10), resident() - rest
back = resident() - rest
after = faults(10)
print(json.dumps({"plain": plain, "kept": kept, "held": held, "back": back, "after": after}))
"""


def test_blocks_are_reused_within_and_handed_back_after() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)  # all as shares of a block of 64 MiB
    assert found["kept"] < 0.001, found
    assert found["held"] > 0.9, found
    assert found["back"] < 0.1, found
    assert abs(found["after"] - found["plain"]) < 0.1, found
