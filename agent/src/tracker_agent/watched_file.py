"""A small file of the operator's, read again when it was replaced or changed: a key, a password."""

from __future__ import annotations

import os

#: No key or password is longer.
SECRET_BYTES_MAX = 4096

#: What tells one content from the next: a change in place, a new file under the name, a changed link.
Stamp = tuple[int, int, int, int]


class WatchedFile:
    """Notices changes by asking for the file's state; the first look counts as one."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._stamp: Stamp | None = None

    def read_if_changed(self) -> bytes | None:
        """Return the content if it may be another than at the last call, else None.

        Raise OSError, ValueError; the next call looks again then.
        """
        before = read_stamp(self.path)
        if before == self._stamp:
            return None
        self._stamp = None
        content, _ = read_secret(self.path)
        # Changed while it was read: the stamp of before makes the next call look again.
        self._stamp = before
        return content


def read_stamp(path: str) -> Stamp:
    """Return what tells one content of a file from the next. Raise OSError."""
    status = os.stat(path)
    return (status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_size)


def read_secret(path: str) -> tuple[bytes, os.stat_result]:
    """Return what a file with a key or a password holds, and its state. Raise OSError, ValueError."""
    with open(path, "rb") as opened:
        content = opened.read(SECRET_BYTES_MAX + 1)
        status = os.fstat(opened.fileno())
    if len(content) > SECRET_BYTES_MAX:
        raise ValueError("is too long; it should hold one line")
    return content, status
