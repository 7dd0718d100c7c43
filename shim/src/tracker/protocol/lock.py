"""Who holds a POSIX lock: how a reader learns whether a stream's writer is alive.

Never ask about a lock of one's own process: closing any descriptor of the file would drop it.
"""

import os
import struct
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Optional


try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

# struct flock: type, whence, start, length, pid; the BSDs order it otherwise.
_BSD = sys.platform == "darwin" or "bsd" in sys.platform
_FLOCK = struct.Struct("qqihh" if _BSD else "hhqqi4x")


def lock_holder(fd: int) -> "Optional[int]":
    """Return the pid that holds a lock on the open file, or None. 0: a holder we cannot see."""
    if fcntl is None:
        return None
    if _BSD:
        asked = _FLOCK.pack(0, 0, 0, fcntl.F_WRLCK, os.SEEK_SET)
        _, _, pid, kind, _ = _FLOCK.unpack(fcntl.fcntl(fd, fcntl.F_GETLK, asked))
    else:
        asked = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        kind, _, _, _, pid = _FLOCK.unpack(fcntl.fcntl(fd, fcntl.F_GETLK, asked))
    return None if kind == fcntl.F_UNLCK else pid


def path_lock_holder(path: str) -> "Optional[int]":
    """Return the pid that holds a lock on the file, or None; None too when it cannot be opened."""
    flags = os.O_RDONLY
    for name in ("O_CLOEXEC", "O_NOFOLLOW", "O_NONBLOCK"):
        flags |= getattr(os, name, 0)
    try:
        fd = os.open(path, flags)
    except OSError:
        return None
    try:
        return lock_holder(fd)
    except OSError:
        return None
    finally:
        os.close(fd)
