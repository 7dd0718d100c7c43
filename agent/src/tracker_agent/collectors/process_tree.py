"""Which processes belong to which writer of a run: the tree below it, in one pass over /proc.

A process is below the nearest writer among its ancestors: a child that writes a stream of its own counts
for that stream alone, with its children.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import NamedTuple

from .kernel import Kernel
from .process_stat import read_process


class _Seen(NamedTuple):
    inode: int
    parent: int
    parent_inode: int | None


class ParentTable:
    """Who is whose parent. Reads a process's file when it is new, or its parent has gone.

    A process and its directory in /proc begin and end together, and every directory has an inode number of
    its own, which listing /proc tells for nothing: 20,000 processes are not 20,000 files to read each time.
    """

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._seen: dict[int, _Seen] = {}

    def read(self) -> dict[int, int]:
        """Return the parent of each process, by pid. Raise OSError when /proc cannot be listed."""
        with os.scandir(self._kernel.path("proc")) as entries:
            inodes = {int(entry.name): entry.inode() for entry in entries if entry.name.isdigit()}
        before, now = self._seen, {}
        for pid, inode in inodes.items():
            seen = before.get(pid)
            if seen is None or seen.inode != inode or inodes.get(seen.parent) != seen.parent_inode:
                process = read_process(self._kernel, pid)
                if process is None:
                    continue
                seen = _Seen(inode, process.parent, inodes.get(process.parent))
            now[pid] = seen
        self._seen = now
        return {pid: seen.parent for pid, seen in now.items()}

    def clear(self) -> None:
        """Forget all, as long as nobody asks."""
        self._seen = {}


def owners(
    parents: Mapping[int, int],
    writers: Collection[int],
    former: Iterable[tuple[int, int]] = (),
    is_same: Callable[[int], bool] = lambda _: True,
) -> dict[int, int]:
    """Return the writer of each process below one, the writers themselves included; parents come first.

    former: (pid, writer) of the time before. Who was below a writer stays there though its parent has gone
    and it is init's child now, as long as is_same(pid) says that it is the same process.
    """
    children: dict[int, list[int]] = {}
    for pid, parent in parents.items():
        children.setdefault(parent, []).append(pid)
    found = {pid: pid for pid in writers if pid in parents}

    def claim(top: int, writer: int) -> None:
        stack = [top]
        while stack:
            for child in children.get(stack.pop(), ()):
                if child not in found:
                    found[child] = writer
                    stack.append(child)

    for writer in list(found):
        claim(writer, writer)
    for pid, writer in former:
        if pid in parents and pid not in found and found.get(writer) == writer and is_same(pid):
            found[pid] = writer
            claim(pid, writer)
    return found
