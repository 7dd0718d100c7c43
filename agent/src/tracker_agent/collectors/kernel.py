"""The kernel's files in /proc and /sys, below a root that tests may choose."""

from __future__ import annotations

import errno
import os

#: Not there, not for us, not supported, or of something that went away meanwhile: a value less, no failure.
_ABSENT = frozenset(
    (
        errno.ENOENT,
        errno.ENOTDIR,
        errno.EACCES,
        errno.EPERM,
        errno.ENODEV,
        errno.ENXIO,
        errno.ESRCH,
        errno.EINVAL,
        errno.EOPNOTSUPP,
        errno.ENODATA,
    )
)


class Kernel:
    """Reads files such as "proc/stat" and "sys/class/net". What is not to be had is None or empty."""

    def __init__(self, root: str = "/") -> None:
        self.root = root

    def path(self, name: str) -> str:
        """Return where a file is."""
        return os.path.join(self.root, name)

    def text(self, name: str) -> str | None:
        """Return a file's content. Raise OSError for what is no mere absence (EIO)."""
        try:
            with open(self.path(name), "rb", buffering=0) as file:
                # None: EAGAIN, as a sensor that sleeps answers.
                return (file.readall() or b"").decode("utf-8", "replace")
        except OSError as error:
            if error.errno in _ABSENT:
                return None
            raise

    def lines(self, name: str) -> list[str]:
        """Return a file's lines."""
        return (self.text(name) or "").splitlines()

    def word(self, name: str) -> str | None:
        """Return what stands in a file of one line; None where it is empty or absent."""
        return (self.text(name) or "").strip() or None

    def number(self, name: str) -> int | None:
        """Return the number that stands in a file; None for "max" and whatever else is none."""
        try:
            return int(self.word(name) or "")
        except ValueError:
            return None

    def table(self, name: str) -> dict[str, int]:
        """Return lines such as "name 12" or "name: 12 kB" as numbers by name."""
        found = {}
        for line in self.lines(name):
            parts = line.replace(":", " ", 1).split()
            if len(parts) > 1 and parts[1].lstrip("-").isdigit():
                found[parts[0]] = int(parts[1])
        return found

    def names(self, name: str) -> list[str]:
        """Return the names in a directory, sorted."""
        try:
            return sorted(os.listdir(self.path(name)))
        except OSError as error:
            if error.errno in _ABSENT:
                return []
            raise

    def link(self, name: str) -> str | None:
        """Return where a symbolic link points to, as it says."""
        try:
            return os.readlink(self.path(name))
        except OSError as error:
            if error.errno in _ABSENT:
                return None
            raise
