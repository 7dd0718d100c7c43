"""disk: traffic of the machine's disks, from /proc/diskstats.

File systems are left alone: statvfs blocks on a dead network mount.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from typing import Any

import psutil

from .collector import Collector, Context, Metric, NothingHere, Reading
from .rates import Rates

#: Block devices that are memory, or stand on other block devices, whose traffic counts already.
_VIRTUAL = ("loop", "ram", "zram", "dm-", "md", "nbd", "sr", "fd")


class DiskCollector(Collector):
    """Rates over all whole disks together; partitions are part of their disk."""

    name = "disk"
    metrics = (
        Metric("host.disk.read.bytes_per_s", "bytes/s", "/proc/diskstats", "read from all disks"),
        Metric("host.disk.written.bytes_per_s", "bytes/s", "/proc/diskstats", "written to all disks"),
        Metric("host.disk.reads_per_s", "1/s", "/proc/diskstats", "read requests, all disks"),
        Metric("host.disk.writes_per_s", "1/s", "/proc/diskstats", "write requests, all disks"),
    )

    def __init__(
        self,
        context: Context | None = None,
        read_counters: Callable[[], Mapping[str, Any]] = lambda: psutil.disk_io_counters(
            perdisk=True, nowrap=False
        ),
        is_disk: Callable[[str], bool] = lambda name: os.path.exists(f"/sys/block/{name.replace('/', '!')}"),
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(context)
        self._read_counters = read_counters
        self._is_disk = is_disk
        self._monotonic = monotonic
        self._rates = {metric.name: Rates() for metric in self.metrics}

    def sample(self) -> Reading:
        now = self._monotonic()
        disks = {
            name: disk
            for name, disk in (self._read_counters() or {}).items()
            if not name.startswith(_VIRTUAL) and self._is_disk(name)
        }
        if not disks:
            raise NothingHere("no disks in /proc/diskstats")
        counters = {
            "host.disk.read.bytes_per_s": {name: disk.read_bytes for name, disk in disks.items()},
            "host.disk.written.bytes_per_s": {name: disk.write_bytes for name, disk in disks.items()},
            "host.disk.reads_per_s": {name: disk.read_count for name, disk in disks.items()},
            "host.disk.writes_per_s": {name: disk.write_count for name, disk in disks.items()},
        }
        rates = {name: self._rates[name].per_second(each, now) for name, each in counters.items()}
        return Reading({name: rate for name, rate in rates.items() if rate is not None})

    def close(self) -> None:
        """Hold nothing."""
