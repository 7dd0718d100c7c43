"""The agent's child that asks the GPU driver, seen from outside: processor time and memory."""

from __future__ import annotations

from collections.abc import Iterable

import psutil


def children_of(pid: int) -> list[psutil.Process]:
    """Return the processes that ask the driver for that one."""
    return [each for each in psutil.Process(pid).children() if "nvidia_child" in " ".join(each.cmdline())]


def cpu_s(processes: Iterable[psutil.Process]) -> float:
    """Return the processor time they have used."""
    return float(sum(sum(process.cpu_times()[:2]) for process in processes))


def rss_mib(processes: Iterable[psutil.Process]) -> float:
    """Return the memory they have."""
    return round(sum(process.memory_info().rss for process in processes) / 2**20, 1)
