"""The segments held open for reading: a bounded number of descriptors."""

from __future__ import annotations

from collections import OrderedDict

from .disk import Disk
from .opening import Place


class OpenFiles:
    """Descriptors of segments, the least recently used closed first. Not thread-safe."""

    def __init__(self, disk: Disk, files_max: int) -> None:
        self.disk = disk
        self._files_max = files_max
        self._fds: OrderedDict[tuple[Place, str], int] = OrderedDict()

    def fd(self, place: Place, name: str) -> tuple[int, bool]:
        """Return a descriptor and whether it was opened just now. Raise Refused, or OSError."""
        key = (place, name)
        fd = self._fds.get(key)
        if fd is not None:
            self._fds.move_to_end(key)
            return fd, False
        fd = self.disk.open_file(place, name)
        while len(self._fds) >= self._files_max:
            self.disk.close(self._fds.popitem(last=False)[1])
        self._fds[key] = fd
        return fd, True

    def close(self, place: Place, name: str) -> None:
        """Close one file, if it is open."""
        fd = self._fds.pop((place, name), None)
        if fd is not None:
            self.disk.close(fd)

    def close_all(self) -> None:
        """Close everything."""
        while self._fds:
            self.disk.close(self._fds.popitem()[1])

    def __len__(self) -> int:
        return len(self._fds)
