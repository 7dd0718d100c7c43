"""memory: main memory, swap and /dev/shm, from /proc/meminfo and statvfs."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import psutil

from .collector import Collector, Context, Metric, Reading


class MemoryCollector(Collector):
    """Memory as processes can get it: used = total - available (MemAvailable)."""

    name = "memory"
    metrics = (
        Metric("host.memory.total.bytes", "bytes", "/proc/meminfo MemTotal", "memory of the machine"),
        Metric(
            "host.memory.available.bytes", "bytes", "/proc/meminfo MemAvailable", "to be had without swapping"
        ),
        Metric("host.memory.used.bytes", "bytes", "/proc/meminfo", "total less available"),
        Metric("host.memory.percent", "%", "/proc/meminfo", "used of total"),
        Metric("host.memory.shared.bytes", "bytes", "/proc/meminfo Shmem", "shared memory and tmpfs"),
        Metric("host.memory.swap_used.bytes", "bytes", "/proc/meminfo", "swap in use"),
        Metric(
            "host.memory.dev_shm.percent",
            "%",
            "statvfs /dev/shm",
            "how full /dev/shm is; data loaders die when it is",
        ),
    )

    def __init__(
        self,
        context: Context | None = None,
        read_memory: Callable[[], Any] = psutil.virtual_memory,
        read_swap: Callable[[], Any] = psutil.swap_memory,
        shm: str = "/dev/shm",  # noqa: S108 (how full it is gets read; nothing is kept there)
    ) -> None:
        super().__init__(context)
        self._read_memory = read_memory
        self._read_swap = read_swap
        self._shm = shm

    def sample(self) -> Reading:
        memory = self._read_memory()
        used = memory.total - memory.available
        values = {
            "host.memory.total.bytes": float(memory.total),
            "host.memory.available.bytes": float(memory.available),
            "host.memory.used.bytes": float(used),
            "host.memory.percent": 100.0 * used / memory.total,
            "host.memory.swap_used.bytes": float(self._read_swap().used),
        }
        if hasattr(memory, "shared"):
            values["host.memory.shared.bytes"] = float(memory.shared)
        full = _percent_full(self._shm)
        if full is not None:
            values["host.memory.dev_shm.percent"] = full
        return Reading(values)

    def close(self) -> None:
        """Hold nothing."""


def _percent_full(path: str) -> float | None:
    try:
        system = os.statvfs(path)
    except OSError:
        return None
    if system.f_blocks == 0:
        # A tmpfs without a limit: it cannot be full.
        return None
    return 100.0 * (system.f_blocks - system.f_bavail) / system.f_blocks
