"""The segments held open for reading: a bounded number of descriptors.

What a user deletes while it is being written lives on as long as someone has it open, so its descriptor is
kept until it was read to its end.
"""

from __future__ import annotations

import errno
from collections import OrderedDict

from .disk import Disk
from .opening import Place

#: Deleted files kept open at the same time: their disk space is not free before they are closed.
HELD_MAX = 64


class OpenFiles:
    """Descriptors of segments, the least recently used closed first. Not thread-safe."""

    def __init__(self, disk: Disk, files_max: int) -> None:
        self.disk = disk
        self._files_max = files_max
        self._fds: OrderedDict[tuple[Place, str], int] = OrderedDict()
        self._held: dict[tuple[Place, str], int] = {}

    def fd(self, place: Place, name: str) -> tuple[int, bool]:
        """Return a descriptor and whether it was opened just now. Raise Refused, or OSError."""
        key = (place, name)
        fd = self._held.get(key)
        if fd is not None:
            return fd, False
        fd = self._fds.get(key)
        if fd is not None:
            self._fds.move_to_end(key)
            return fd, False
        try:
            fd = self.disk.open_file(place, name)
        except OSError as error:
            if error.errno not in (errno.EMFILE, errno.ENFILE) or not self._fds:
                raise
            self._shrink(len(self._fds) // 2)  # so that others get some, too
            fd = self.disk.open_file(place, name)
        self._shrink(self._files_max - 1)
        self._fds[key] = fd
        return fd, True

    def hold(self, place: Place, name: str) -> bool:
        """Keep a file open that was deleted, if it is open and there is room."""
        key = (place, name)
        fd = self._fds.get(key)
        if key in self._held:
            return True
        if fd is None or len(self._held) >= HELD_MAX or not self.disk.is_deleted(fd):
            return False
        self._held[key] = self._fds.pop(key)
        return True

    def holds(self, place: Place, name: str) -> bool:
        """Return whether a file was deleted and is kept open."""
        return (place, name) in self._held

    @property
    def held(self) -> int:
        """Number of deleted files that are kept open."""
        return len(self._held)

    def close(self, place: Place, name: str) -> None:
        """Close one file, if it is open."""
        for fds in (self._fds, self._held):
            fd = fds.pop((place, name), None)
            if fd is not None:
                self.disk.close(fd)

    def _shrink(self, files: int) -> None:
        while len(self._fds) > max(0, files):
            self.disk.close(self._fds.popitem(last=False)[1])

    def close_all(self) -> None:
        """Close everything."""
        self._shrink(0)
        while self._held:
            self.disk.close(self._held.popitem()[1])

    def __len__(self) -> int:
        return len(self._fds) + len(self._held)
