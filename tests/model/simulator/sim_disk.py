"""A simulated file system: files with what of them would survive a power loss, directories, locks.

SimDisk is the machine's; ProcessDisk (process_disk.py) is how an agent sees it, files_of_writers.py how
training processes do.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from .world import World

if TYPE_CHECKING:
    from .host import Process

START_NS = 1_700_000_000_000_000_000


class Node:
    """A file (entries is None) or a directory."""

    __slots__ = (
        "base",
        "changed_at",
        "changed_ns",
        "data",
        "durable",
        "entries",
        "holder",
        "inode",
        "links",
        "mtime_ns",
        "uid",
        "written",
    )

    def __init__(self, inode: int, uid: int, directory: bool, mtime_ns: int, now: float) -> None:
        self.inode = inode
        self.uid = uid
        self.entries: dict[str, Node] | None = {} if directory else None
        self.data = bytearray()
        self.durable = -1  #: bytes that survive a power loss; -1: not even the name
        self.links = 1
        self.holder: Process | None = None  #: of the POSIX lock
        self.mtime_ns = self.changed_ns = mtime_ns
        self.changed_at = now  #: when a name was added, for listings that lag behind
        self.base = -1  #: of a segment: position of its first byte
        self.written: tuple[Process, float, int] | None = None  #: by whom, when, and from where on, at last


class Status:
    """What stat() returns, as far as it is looked at."""

    __slots__ = (
        "st_ctime_ns",
        "st_ino",
        "st_mode",
        "st_mtime",
        "st_mtime_ns",
        "st_nlink",
        "st_size",
        "st_uid",
    )

    def __init__(self, node: Node) -> None:
        self.st_ino = node.inode
        self.st_uid = node.uid
        self.st_nlink = node.links
        self.st_size = len(node.data)
        self.st_mtime_ns = node.mtime_ns
        self.st_ctime_ns = node.changed_ns
        self.st_mtime = node.mtime_ns / 1e9
        self.st_mode = 0o100660 if node.entries is None else 0o040770


def error(number: int, path: str = "") -> OSError:
    """Return the OSError of a number."""
    return OSError(number, os.strerror(number), path)


class SimDisk:
    """The files of a host. Paths are absolute and hold no symbolic links."""

    def __init__(self, world: World) -> None:
        self.full = False
        self.hung = False
        self.coarse_stamps = False
        self.stamp_offset_ns = 0  #: the file system's clock is another machine's
        self.wall_offset_ns = 0  #: the host's clock
        self.watches: dict[str, list[object]] = {}
        self.changed = lambda path: None  #: told of every directory in which something changed
        self._world = world
        self._inode = 1
        self.root = self._node(0, directory=True)
        self.root.durable = 0

    # Making and finding.

    def stamp_ns(self) -> int:
        """Return the time stamp of a change made now."""
        stamp = START_NS + int(self._world.now * 1e9) + self.wall_offset_ns + self.stamp_offset_ns
        return stamp - stamp % 1_000_000_000 if self.coarse_stamps else stamp - stamp % 4_000_000

    def _node(self, uid: int, directory: bool) -> Node:
        self._inode += 1
        return Node(self._inode, uid, directory, self.stamp_ns(), self._world.now)

    def find(self, path: str) -> Node:
        """Return what a path names. Raise FileNotFoundError, NotADirectoryError."""
        node = self.root
        for part in path.split("/")[1:]:
            if node.entries is None:
                raise error(errno.ENOTDIR, path)
            found = node.entries.get(part)
            if found is None:
                raise error(errno.ENOENT, path)
            node = found
        return node

    def exists(self, path: str) -> bool:
        """Return whether a path names something."""
        try:
            self.find(path)
        except OSError:
            return False
        return True

    def make_directories(self, path: str, uid: int) -> Node:
        """Make a directory and those above it, as far as they are missing."""
        node = self.root
        done = ""
        for part in path.split("/")[1:]:
            assert node.entries is not None
            found = node.entries.get(part)
            if found is None:
                found = node.entries[part] = self._node(uid, directory=True)
                node.mtime_ns = node.changed_ns = self.stamp_ns()
                self.changed(done)
            node, done = found, f"{done}/{part}"
        return node

    def create(self, path: str, uid: int) -> Node:
        """Make a file. Raise FileExistsError, FileNotFoundError."""
        if self.full:
            raise error(errno.ENOSPC, path)
        parent, _, name = path.rpartition("/")
        directory = self.find(parent)
        if directory.entries is None:
            raise error(errno.ENOTDIR, path)
        if name in directory.entries:
            raise error(errno.EEXIST, path)
        node = directory.entries[name] = self._node(uid, directory=False)
        directory.mtime_ns = directory.changed_ns = self.stamp_ns()
        self.changed(parent)
        return node

    def wrote(self, path: str, node: Node) -> None:
        """Note that a file's content changed."""
        node.mtime_ns = node.changed_ns = self.stamp_ns()
        self.changed(path.rpartition("/")[0])

    def unlink(self, path: str) -> Node:
        """Remove a file's name. Raise FileNotFoundError."""
        parent, _, name = path.rpartition("/")
        directory = self.find(parent)
        node = directory.entries.pop(name, None) if directory.entries is not None else None
        if node is None:
            raise error(errno.ENOENT, path)
        node.links = 0
        directory.mtime_ns = directory.changed_ns = self.stamp_ns()
        self.changed(parent)
        return node

    def remove_tree(self, path: str) -> list[Node]:
        """Remove a directory and everything in it; return the files that were there."""
        node = self.find(path)
        files = [file for _, file in self.files_below(path)]
        for file in files:
            file.links = 0
        parent, _, name = path.rpartition("/")
        directory = self.find(parent)
        assert directory.entries is not None and node is directory.entries[name]
        del directory.entries[name]
        directory.mtime_ns = directory.changed_ns = self.stamp_ns()
        self.changed(parent)
        return files

    def rename(self, path: str, new_path: str) -> None:
        """Rename a file or directory, in place of what has the new name."""
        node = self.find(path)
        for each in (path, new_path):
            parent, _, name = each.rpartition("/")
            directory = self.find(parent)
            assert directory.entries is not None
            if each == path:
                del directory.entries[name]
            else:
                directory.entries[name] = node
            directory.mtime_ns = directory.changed_ns = self.stamp_ns()
            self.changed(parent)

    def files_below(self, path: str) -> Iterator[tuple[str, Node]]:
        """Yield every file below a directory, with its path."""
        try:
            node = self.find(path)
        except OSError:
            return
        if node.entries is None:
            yield path, node
            return
        for name in list(node.entries):
            yield from self.files_below(f"{path}/{name}")

    # Power.

    def write_back(self) -> None:
        """Let the kernel write back what it has."""
        for _, node in self.files_below("/"[:0]):
            node.durable = len(node.data)

    def lose_power(self) -> None:
        """Lose what the kernel had not written back: cut short, filled with zeros, or the file as a whole."""
        draw = self._world.random
        for path, node in list(self.files_below("")):
            written = len(node.data)
            if written == node.durable:
                continue
            if node.durable < 0 and draw.random() < 0.3:
                self.unlink(path)
                continue
            kept = draw.randint(min(max(node.durable, 0), written), written)
            if draw.random() < 0.3:
                node.data[kept:] = bytes(written - kept)
            else:
                del node.data[kept:]
            node.durable = len(node.data)
