"""glibc's heap, kept from growing with the number of threads."""

from __future__ import annotations

import ctypes

#: Parameters of mallopt(3).
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8

#: Threads share so many heaps. By default each of eight per core would keep what it once needed.
ARENAS = 2
#: Blocks of this size and more go back to the kernel when they are freed. Naming it also stops glibc from
#: raising it to the size of the largest block that was ever freed.
MMAP_THRESHOLD = 256 * 1024


def bound_heap() -> bool:
    """Call before threads start. Return False where the C library has no such settings (musl, macOS)."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:
        return False
    return bool(mallopt(_M_ARENA_MAX, ARENAS) and mallopt(_M_MMAP_THRESHOLD, MMAP_THRESHOLD))
