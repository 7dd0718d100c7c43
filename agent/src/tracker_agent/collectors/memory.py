"""memory: main memory, swap and /dev/shm, from /proc/meminfo and statvfs."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

from .collector import Collector, CollectorError, Context, Metric, NothingHere, Reading

_KIB = 1024
#: What is handed on as it stands: the line of /proc/meminfo by metric.
_LINES = {
    "host.memory.free.bytes": "MemFree",
    "host.memory.buffers.bytes": "Buffers",
    "host.memory.cached.bytes": "Cached",
    "host.memory.shared.bytes": "Shmem",
    "host.memory.anonymous.bytes": "AnonPages",
    "host.memory.dirty.bytes": "Dirty",
    "host.memory.writeback.bytes": "Writeback",
    "host.memory.slab.bytes": "Slab",
    "host.memory.slab_unreclaimable.bytes": "SUnreclaim",
    "host.memory.page_tables.bytes": "PageTables",
    "host.memory.committed.bytes": "Committed_AS",
    "host.memory.swap_total.bytes": "SwapTotal",
}


class MemoryCollector(Collector):
    """Memory as processes can get it, what it is used for, swap, and how full /dev/shm is."""

    name = "memory"
    cost = "one file and one statvfs; 0.1 ms"
    metrics = (
        Metric("host.memory.total.bytes", "bytes", "/proc/meminfo MemTotal", "memory of the machine"),
        Metric(
            "host.memory.available.bytes", "bytes", "/proc/meminfo MemAvailable", "to be had without swapping"
        ),
        Metric("host.memory.used.bytes", "bytes", "/proc/meminfo", "total less available"),
        Metric("host.memory.percent", "%", "/proc/meminfo", "used of total"),
        Metric("host.memory.free.bytes", "bytes", "/proc/meminfo MemFree", "used for nothing at all"),
        Metric("host.memory.buffers.bytes", "bytes", "/proc/meminfo Buffers", "cache of block devices"),
        Metric(
            "host.memory.cached.bytes", "bytes", "/proc/meminfo Cached", "cache of files, shared included"
        ),
        Metric("host.memory.shared.bytes", "bytes", "/proc/meminfo Shmem", "shared memory and tmpfs"),
        Metric("host.memory.anonymous.bytes", "bytes", "/proc/meminfo AnonPages", "heaps and stacks"),
        Metric("host.memory.dirty.bytes", "bytes", "/proc/meminfo Dirty", "waits to be written to disk"),
        Metric("host.memory.writeback.bytes", "bytes", "/proc/meminfo Writeback", "is being written to disk"),
        Metric("host.memory.slab.bytes", "bytes", "/proc/meminfo Slab", "the kernel's own objects"),
        Metric(
            "host.memory.slab_unreclaimable.bytes",
            "bytes",
            "/proc/meminfo SUnreclaim",
            "the kernel's objects that cannot be given back; a leak shows here",
        ),
        Metric("host.memory.page_tables.bytes", "bytes", "/proc/meminfo PageTables", "tables of pages"),
        Metric("host.memory.committed.bytes", "bytes", "/proc/meminfo Committed_AS", "promised to programs"),
        Metric("host.memory.hugepages_total.bytes", "bytes", "/proc/meminfo", "set aside as huge pages"),
        Metric("host.memory.hugepages_used.bytes", "bytes", "/proc/meminfo", "huge pages in use"),
        Metric("host.memory.swap_total.bytes", "bytes", "/proc/meminfo SwapTotal", "swap there is"),
        Metric("host.memory.swap_used.bytes", "bytes", "/proc/meminfo", "swap in use"),
        Metric("host.memory.swap.percent", "%", "/proc/meminfo", "swap in use, of all; none without swap"),
        Metric(
            "host.memory.dev_shm.percent",
            "%",
            "statvfs /dev/shm",
            "how full /dev/shm is; data loaders die when it is",
        ),
        Metric("host.memory.dev_shm_used.bytes", "bytes", "statvfs /dev/shm", "used of /dev/shm"),
        Metric("host.memory.dev_shm_total.bytes", "bytes", "statvfs /dev/shm", "size of /dev/shm"),
    )

    def __init__(
        self,
        context: Context | None = None,
        statvfs: Callable[[str], os.statvfs_result] = os.statvfs,
    ) -> None:
        super().__init__(context)
        self._statvfs = statvfs

    def sample(self) -> Reading:
        kernel = self.context.kernel
        table = kernel.table("proc/meminfo")
        if not table:
            raise NothingHere("no /proc/meminfo")
        if not table.get("MemTotal"):
            raise CollectorError("/proc/meminfo does not say MemTotal")
        return Reading(_memory(table) | _swap(table) | self._shm(kernel.path("dev/shm")))

    def _shm(self, path: str) -> dict[str, float]:
        try:
            system = self._statvfs(path)
        except OSError:
            return {}
        if system.f_blocks == 0:
            # A tmpfs without a limit: it cannot be full.
            return {}
        used = system.f_blocks - system.f_bavail
        return {
            "host.memory.dev_shm.percent": 100.0 * used / system.f_blocks,
            "host.memory.dev_shm_used.bytes": float(used * system.f_frsize),
            "host.memory.dev_shm_total.bytes": float(system.f_blocks * system.f_frsize),
        }


def _memory(table: Mapping[str, int]) -> dict[str, float]:
    total, available = table["MemTotal"], table.get("MemAvailable")
    if available is None:
        # Kernels before 3.14: what was meant by "available" until then.
        available = sum(table.get(line, 0) for line in ("MemFree", "Buffers", "Cached"))
    # The kernel's estimate may exceed the total on machines whose memory is hot-plugged.
    available = min(available, total)
    values = {
        "host.memory.total.bytes": float(total * _KIB),
        "host.memory.available.bytes": float(available * _KIB),
        "host.memory.used.bytes": float((total - available) * _KIB),
        "host.memory.percent": 100.0 * (total - available) / total,
    }
    values |= {name: float(table[line] * _KIB) for name, line in _LINES.items() if line in table}
    page = table.get("Hugepagesize", 0) * _KIB
    if page and "HugePages_Total" in table:
        pages = table["HugePages_Total"]
        values["host.memory.hugepages_total.bytes"] = float(pages * page)
        values["host.memory.hugepages_used.bytes"] = float((pages - table.get("HugePages_Free", 0)) * page)
    return values


def _swap(table: Mapping[str, int]) -> dict[str, float]:
    total, free = table.get("SwapTotal"), table.get("SwapFree")
    if total is None or free is None:
        return {}
    values = {"host.memory.swap_used.bytes": float((total - free) * _KIB)}
    if total:
        values["host.memory.swap.percent"] = 100.0 * (total - free) / total
    return values
