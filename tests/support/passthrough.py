"""A FUSE file system that passes everything on to a directory: writes made behind it send no inotify events.

That is what a network file system is to the agent on another machine than the training's.

    python -m tests.support.passthrough DIRECTORY MOUNT_POINT
"""

from __future__ import annotations

import ctypes
import os
import sys
from typing import Any

import mfusepy

ATTRIBUTES = ("st_mode", "st_ino", "st_nlink", "st_uid", "st_gid", "st_size")
FREE = [
    "f_bavail",
    "f_bfree",
    "f_blocks",
    "f_bsize",
    "f_favail",
    "f_ffree",
    "f_files",
    "f_flag",
    "f_frsize",
    "f_namemax",
]


class Passthrough(mfusepy.Operations):  # type: ignore[misc]
    """What an agent and a training need of a file system."""

    use_ns = True

    def __init__(self, directory: str) -> None:
        self._directory = directory

    def _real(self, path: str) -> str:
        return self._directory + path

    def getattr(self, path: str, fh: Any = None) -> dict[str, Any]:
        found = os.lstat(self._real(path))
        times = {"st_atime": found.st_atime_ns, "st_mtime": found.st_mtime_ns, "st_ctime": found.st_ctime_ns}
        return {name: getattr(found, name) for name in ATTRIBUTES} | times

    def readdir(self, path: str, fh: Any) -> list[str]:
        return [".", "..", *os.listdir(self._real(path))]

    def open(self, path: str, flags: int) -> int:
        # The kernel says where to write; O_APPEND here would write it elsewhere.
        return os.open(self._real(path), flags & ~os.O_APPEND)

    def create(self, path: str, mode: int, fi: Any = None) -> int:
        return os.open(self._real(path), os.O_RDWR | os.O_CREAT | os.O_EXCL, mode)

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        return os.pread(fh, size, offset)

    def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
        return os.pwrite(fh, data, offset)

    def truncate(self, path: str, length: int, fh: Any = None) -> int:
        os.truncate(self._real(path), length)
        return 0

    def fsync(self, path: str, datasync: int, fh: int) -> int:
        os.fsync(fh)
        return 0

    def release(self, path: str, fh: int) -> int:
        os.close(fh)
        return 0

    def lock(self, path: str, fh: int, cmd: int, lock: Any) -> int:
        """Pass POSIX locks on, as NFS does: who asks here sees a lock that is held behind."""
        if ctypes.CDLL(None, use_errno=True).fcntl(fh, cmd, lock) != 0:
            raise mfusepy.FuseOSError(ctypes.get_errno())
        return 0

    def rename(self, old: str, new: str) -> int:
        os.rename(self._real(old), self._real(new))
        return 0

    def unlink(self, path: str) -> int:
        os.unlink(self._real(path))
        return 0

    def mkdir(self, path: str, mode: int) -> int:
        os.mkdir(self._real(path), mode)
        return 0

    def rmdir(self, path: str) -> int:
        os.rmdir(self._real(path))
        return 0

    def chmod(self, path: str, mode: int) -> int:
        os.chmod(self._real(path), mode)
        return 0

    def statfs(self, path: str) -> dict[str, int]:
        found = os.statvfs(self._real(path))
        return {name: getattr(found, name) for name in FREE}


if __name__ == "__main__":
    mfusepy.FUSE(
        Passthrough(sys.argv[1]),
        sys.argv[2],
        foreground=True,
        nothreads=False,
        attr_timeout=0,
        entry_timeout=0,
    )
