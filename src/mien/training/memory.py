"""Freed memory is kept for the next step while a CPU trains."""

import ctypes
import platform
from collections.abc import Iterator
from contextlib import contextmanager

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of glibc's malloc.h
DEFAULT_TRIM_THRESHOLD, DEFAULT_MMAP_MAX = 128 * 1024, 65536


@contextmanager
def kept() -> Iterator[None]:
    """Let malloc keep what is freed, and hand it back at the end; nothing happens where libc is not glibc.

    glibc returns each large block to the system, which maps and clears its pages anew for the next one: a third of the
    step of a small network, whose activations are large beside its arithmetic. The settings are the process' own, so
    whatever else runs in it keeps its memory too until then; afterwards they are glibc's defaults again, though its
    thresholds no longer adapt.
    """
    if platform.libc_ver()[0] != "glibc":
        yield
        return
    libc = ctypes.CDLL(None)
    libc.mallopt(M_MMAP_MAX, 0)
    libc.mallopt(M_TRIM_THRESHOLD, -1)
    try:
        yield
    finally:
        libc.mallopt(M_MMAP_MAX, DEFAULT_MMAP_MAX)
        libc.mallopt(M_TRIM_THRESHOLD, DEFAULT_TRIM_THRESHOLD)
        libc.malloc_trim(0)
