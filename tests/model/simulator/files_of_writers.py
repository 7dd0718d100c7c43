"""The real StreamWriter on the simulated disk: its module is loaded once more, with an `os` of ours.

What it calls of `os` and `fcntl` is here; short writes, a full disk and a death within a write are, too.
"""

from __future__ import annotations

import errno
import importlib.util
import os
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import tracker.protocol.writer as real
from tracker.protocol.header import Header, read_header

from .agent_loop import ProcessDiedError
from .host import Host, Process
from .sim_disk import Node, error

if TYPE_CHECKING:
    from tracker.protocol.writer import StreamWriter

    from .trainings import Training
else:
    _spec = importlib.util.spec_from_file_location("tracker.protocol._simulated_writer", real.__file__)
    _module = importlib.util.module_from_spec(_spec)
    _spec.loader.exec_module(_module)
    StreamWriter = _module.StreamWriter


class _OpenFile:
    __slots__ = ("node", "path", "process")

    def __init__(self, path: str, node: Node, process: Process) -> None:
        self.path = path
        self.node = node
        self.process = process


class Line:
    """A line as it was written to a file. acknowledged: log() returned."""

    __slots__ = ("acknowledged", "at", "data")

    def __init__(self, data: bytes, at: float) -> None:
        self.data = data
        self.at = at  #: when it was written
        self.acknowledged = False


class WriterFiles:
    """The system calls of all processes that write streams, and the ledger of what they wrote."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.acting: tuple[Process, int] | None = None  #: process and uid that open() acts for
        self.torn = False  #: the next write is cut short by the death of its process
        self.short = False  #: the next write is cut short by the disk
        self.no_truncate = False
        self.ledger: dict[bytes, dict[int, Line]] = {}  #: stream → position → line, HEADERs too
        self.trainings: list[Training] = []
        self.segments: dict[bytes, list[tuple[str, Node]]] = {}  #: stream → its files, gone or not
        self.last: tuple[bytes, int] = (b"", 0)  #: stream and position of the last whole line
        self._fds: dict[int, _OpenFile] = {}
        self._next_fd = 1000
        _module.os = SimpleNamespace(
            open=self.open, write=self.write, fstat=self.fstat, ftruncate=self.ftruncate, fsync=self.fsync,
            unlink=host.disk.unlink, close=self.close, path=os.path,
            O_CREAT=os.O_CREAT, O_EXCL=os.O_EXCL, O_APPEND=os.O_APPEND,
        )  # fmt: skip
        _module.fcntl = SimpleNamespace(lockf=self.lockf, LOCK_EX=1, LOCK_NB=2)

    def close_all(self) -> None:
        """Let go of the StreamWriter's module."""
        _module.os = _module.fcntl = None

    def open(self, path: str, flags: int, mode: int = 0) -> int:
        assert self.acting is not None
        process, uid = self.acting
        node = self.host.disk.create(path, uid) if flags & os.O_CREAT else self.host.disk.find(path)
        self._next_fd += 1
        self._fds[self._next_fd] = _OpenFile(path, node, process)
        return self._next_fd

    def write(self, fd: int, data: bytes) -> int:
        opened = self._fds[fd]
        node = opened.node
        start = len(node.data)
        size = len(data)
        written = size
        if self.host.disk.full:
            written = self.host.world.random.randint(0, size - 1)
            self.host.fired("disk_full")
        if self.short or self.torn:
            written = self.host.world.random.randint(0, size - 1)
        if written == 0 and not self.torn:
            raise error(errno.ENOSPC, opened.path)
        node.data += data[:written]
        node.written = opened.process, self.host.world.now, start
        opened.process.writes = node
        self.host.disk.wrote(opened.path, node)
        if self.torn:
            raise ProcessDiedError
        if written == size:
            self._note(opened, node, start, data)
        return written

    def _note(self, opened: _OpenFile, node: Node, start: int, data: bytes) -> None:
        name = opened.path.rpartition("/")[2]
        stream = bytes.fromhex(name[:32])
        if start == 0:
            node.base = read_header(data)[0].base
            self.segments.setdefault(stream, []).append((opened.path, node))
        position = node.base + start
        self.ledger.setdefault(stream, {})[position] = Line(bytes(data), self.host.world.now)
        self.last = (stream, position)

    def fstat(self, fd: int) -> Any:
        node = self._fds[fd].node
        return SimpleNamespace(st_size=len(node.data), st_nlink=node.links)

    def ftruncate(self, fd: int, size: int) -> None:
        opened = self._fds[fd]
        if self.no_truncate and size:
            raise error(errno.EIO, opened.path)
        del opened.node.data[size:]
        opened.node.durable = min(opened.node.durable, size)
        self.host.disk.wrote(opened.path, opened.node)

    def fsync(self, fd: int) -> None:
        node = self._fds[fd].node
        node.durable = len(node.data)

    def lockf(self, fd: int, _how: int) -> None:
        opened = self._fds[fd]
        opened.node.holder = opened.process
        opened.process.locks.append(opened.node)

    def close(self, fd: int) -> None:
        opened = self._fds.pop(fd)
        if opened.node.holder is opened.process:
            opened.node.holder = None


class SimWriter(StreamWriter):
    """The real StreamWriter, of a simulated process."""

    def __init__(
        self, files: WriterFiles, process: Process, uid: int, directory: str, header: Header, size: int
    ) -> None:
        self._files = files
        self._who = (process, uid)
        files.acting = self._who
        super().__init__(directory, header, size)

    def write(self, kind: int, body: bytes) -> None:
        files = self._files
        files.acting = self._who
        super().write(kind, body)
        stream, position = files.last
        assert stream == self.header.stream
        files.ledger[stream][position].acknowledged = True
