"""The agent's Disk on the simulated machine: every call may fail, hang, or be the last one of the process."""

from __future__ import annotations

import errno
import os
from collections.abc import Collection
from contextlib import AbstractContextManager
from typing import Any, NoReturn

from tracker.protocol.layout import live_name, parse_segment_name
from tracker_agent.disk import Disk
from tracker_agent.opening import Place, Refused

from .agent_loop import AgentLoop
from .host import Host
from .sim_disk import Node, Status, error

#: A write takes no longer than this.
WRITE_S = 0.5
#: A listing that lags behind lacks what was made within this time.
STALE_S = 1.0


class ProcessDisk(Disk):
    """What one agent process sees of the host's disk."""

    def __init__(self, host: Host, loop: AgentLoop) -> None:
        self.most_open = 0
        self._host = host
        self._disk = host.disk
        self._world = host.world
        self._loop = loop
        self._fds: dict[int, Node] = {}
        self._next_fd = 10

    def _step(self, fault: str, chance: float, number: int = errno.EIO) -> None:
        self._loop.step()
        if chance and self._world.random.random() < chance:
            self._host.fired(fault)
            raise error(number)

    def step_write(self) -> None:
        """Count a call that changes the disk; it may fail."""
        self._step("write_failed", self._host.faults.write_failed)

    # Looking.

    def status(self, path: str, follow: bool = False) -> Any:
        self._step("stat_failed", self._host.faults.stat_failed)
        return Status(self._disk.find(path))

    def names(self, path: str) -> list[str]:
        self._step("listing_failed", self._host.faults.listing_failed)
        return list(self._entries(self._disk.find(path)))

    def check_user_directory(self, root: str, user: str, uid: int) -> None:
        self._step("open_failed", self._host.faults.open_failed, errno.EMFILE)
        self._owned(f"{root}/{user}", uid)

    def directories(self, root: str, user: str, uid: int) -> Collection[str]:
        self._step("listing_failed", self._host.faults.listing_failed)
        entries = self._entries(self._owned(f"{root}/{user}" if user else root, uid))
        return {name for name, node in entries.items() if node.entries is not None}

    def list_directory(self, place: Place) -> tuple[Any, list[str]]:
        self._step("listing_failed", self._host.faults.listing_failed)
        node = self._owned(place.path, place.uid)
        entries = self._entries(node)
        status = Status(node)
        names = list(entries)
        if self._world.chance(self._host.faults.listing_stale):
            fresh = self._world.now - STALE_S
            seen = [name for name in names if entries[name].changed_at < fresh]
            if len(seen) < len(names):
                self._host.fired("listing_stale")
                return status, seen
        return status, names

    def read_user_file(self, root: str, user: str, uid: int, name: str, bytes_max: int) -> bytes:
        self._step("read_failed", self._host.faults.read_failed)
        return bytes(self._regular(f"{root}/{user}/{name}", uid).data[:bytes_max])

    def lock_holder(self, place: Place, stream: bytes) -> int | None:
        self._step("lock_unanswered", self._host.faults.lock_unanswered)
        try:
            node = self._regular(f"{place.path}/{live_name(stream)}", place.uid)
        except (FileNotFoundError, Refused):
            return None
        return None if node.holder is None else node.holder.pid

    def user_name(self, uid: int) -> str:
        return f"user-{uid}"

    # Opening and reading.

    def open_file(self, place: Place, name: str) -> int:
        self._step("open_failed", self._host.faults.open_failed, errno.EMFILE)
        node = self._regular(f"{place.path}/{name}", place.uid)
        self._next_fd += 1
        self._fds[self._next_fd] = node
        # Deleted files that are held for their bytes have a bound of their own.
        self.most_open = max(self.most_open, sum(each.links for each in self._fds.values()))
        return self._next_fd

    def pread(self, fd: int, size: int, offset: int) -> bytes:  # type: ignore[override]
        self._step("read_failed", self._host.faults.read_failed)
        node = self._fds[fd]
        end = min(offset + size, self._visible(node))
        return bytes(node.data[offset:end])

    def _visible(self, node: Node) -> int:
        """Return how far a file can be read: a write that is still under way may be seen in part."""
        if node.written is not None:
            process, at, start = node.written
            under_way = process.alive and process.writes is node and self._world.now - at < WRITE_S
            if under_way and self._world.chance(self._host.faults.write_seen_half):
                self._host.fired("write_seen_half")
                return self._world.random.randint(start, len(node.data))
            node.written = None  # what was seen whole stays whole
        return len(node.data)

    def size(self, fd: int) -> int:
        self._step("stat_failed", self._host.faults.stat_failed)
        return len(self._fds[fd].data)

    def data_after(self, fd: int, offset: int, size: int) -> int:
        self._step("read_failed", self._host.faults.read_failed)
        return offset

    def is_deleted(self, fd: int) -> bool:
        self._loop.step()
        return self._fds[fd].links == 0

    def is_running(self, pid: int) -> bool:
        self._loop.step()
        return pid in self._host.processes and self._host.processes[pid].alive

    def close(self, fd: int) -> None:  # type: ignore[override]
        del self._fds[fd]

    # The agent's own files.

    def unlink(self, path: str) -> None:
        self.step_write()
        try:
            node = self._disk.find(path)
            parsed = parse_segment_name(os.path.basename(path))
            if parsed is not None:
                self._host.judge_removal(parsed[0], node)
            self._disk.unlink(path)
        except FileNotFoundError:
            pass

    def read_file(self, path: str) -> bytes:
        self._step("read_failed", self._host.faults.read_failed)
        return bytes(self._disk.find(path).data)

    def rename(self, path: str, new_path: str) -> None:
        self._step("write_failed", self._host.faults.write_failed)
        self._disk.rename(path, new_path)

    def replace_file(self, path: str, content: bytes) -> None:
        temporary = path + ".new"
        self._step("write_failed", self._host.faults.write_failed, errno.ENOSPC)
        self._disk.make_directories(os.path.dirname(path), 0)
        if self._disk.exists(temporary):
            self._disk.unlink(temporary)
        node = self._disk.create(temporary, 0)
        self._loop.step()
        node.data += content
        node.durable = len(node.data)
        self._loop.step()
        self._disk.rename(temporary, path)

    # What is looked at.

    @staticmethod
    def _entries(node: Node) -> dict[str, Node]:
        if node.entries is None:
            raise error(errno.ENOTDIR)
        return node.entries

    def _owned(self, path: str, uid: int) -> Node:
        node = self._disk.find(path)
        if node.uid != uid:
            raise Refused(f"belongs to uid {node.uid}")
        return node

    def _regular(self, path: str, uid: int) -> Node:
        try:
            node = self._owned(path, uid)
        except NotADirectoryError as problem:
            raise Refused("a special file stands in its path") from problem
        if node.entries is not None:
            raise Refused("not a regular file")
        return node

    # What the simulated disk stands for is never asked.

    def user_directory(self, root: str, user: str, uid: int) -> AbstractContextManager[int]:
        _not_simulated("user_directory")

    def open_beneath(self, directory: int, path: str, flags: int) -> int:
        _not_simulated("open_beneath")

    def open_regular(self, directory: int, path: str, uid: int) -> int:
        _not_simulated("open_regular")


def _not_simulated(name: str) -> NoReturn:
    raise AssertionError(f"Disk.{name} reaches the real file system: go through a simulated method")
