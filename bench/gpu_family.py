"""The agent's child that asks the GPU driver, seen from outside: processor time and memory."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def children_of(pid: int) -> list[int]:
    """Return the pids of the processes that ask the driver for that one."""
    found = []
    for directory in Path("/proc").iterdir():
        if directory.name.isdigit():
            try:
                asks = b"nvidia_child" in (directory / "cmdline").read_bytes()
                if asks and int(_stat(int(directory.name))[1]) == pid:
                    found.append(int(directory.name))
            except (FileNotFoundError, ProcessLookupError):
                continue
    return found


def cpu_s(pids: Iterable[int]) -> float:
    """Return the processor time they have used."""
    return sum(sum(map(int, _stat(pid)[11:13])) for pid in pids) / _TICKS_PER_S


def rss_mib(pids: Iterable[int]) -> float:
    """Return the memory they have."""
    pages = sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in pids)
    return round(pages * _PAGE_BYTES / 2**20, 1)


def _stat(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat from the state on."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
