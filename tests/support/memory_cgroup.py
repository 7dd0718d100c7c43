"""A memory cgroup with a limit, below the one this process is in, made and removed by a test."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support import require
from tracker_agent.memory_group import MemoryGroups


@contextmanager
def memory_cgroup(limit_bytes: int) -> Iterator[Path]:
    """Lend the directory of a new group; processes enter by writing their pid to its cgroup.procs."""
    require.root()
    own = MemoryGroups().of(os.getpid())
    if own is None:
        require.absent("memory cgroup", "this process is in none that can be seen", "run on a host")
    directory = Path(own.directory) / f"tracker-test-{os.getpid()}-{time.monotonic_ns()}"
    try:
        directory.mkdir()
        limit = "memory.max" if own.version == 2 else "memory.limit_in_bytes"
        (directory / limit).write_text(str(limit_bytes))
    except OSError as error:
        if directory.is_dir():
            directory.rmdir()
        require.absent("memory cgroup", f"cannot make one: {error}", "run on a host, as root")
    try:
        yield directory
    finally:
        remove_cgroup(directory)


def remove_cgroup(directory: Path) -> None:
    """Kill who is in a group, and remove it once they are gone."""
    deadline = time.monotonic() + 10
    while directory.is_dir():
        for pid in (directory / "cgroup.procs").read_text().split():
            os.kill(int(pid), signal.SIGKILL)
        try:
            directory.rmdir()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)  # until the kernel has taken the dead out
