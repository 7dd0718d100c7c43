"""disk: traffic, waiting and load of the machine's disks, from /proc/diskstats."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from .collector import Collector, Context, Metric, NothingHere, Reading
from .devices import DeviceGrowth, DeviceSettings, Interval, MetricNames, devices_max, parse_counters

#: What /proc/diskstats calls a sector, whatever the disk says.
SECTOR_BYTES = 512
#: Which disks count is looked up again when others appear, and this often.
RESCAN_S = 60.0
#: Below /sys/devices/virtual/block are memory (ram, zram), and what stands on other disks or on files
#: (dm, md, loop, bcache): their traffic counts there already. A network block device is one of its own.
_VIRTUAL = "/virtual/block/"
_REMOTE = re.compile(r"/virtual/block/nbd\d+$")
#: A path to an NVMe disk that has several: nvme0c1n1 leads to nvme0n1.
_PATH = re.compile(r"(nvme\d+)c\d+(n\d+)")

#: Where the counters stand in a line, counted from the device's number.
_COLUMNS = {
    "reads": 3,
    "sectors_read": 5,
    "read_ms": 6,
    "writes": 7,
    "sectors_written": 9,
    "write_ms": 10,
    "busy_ms": 12,
    "queue_ms": 13,
}
_SOURCE = "/proc/diskstats"
_TOTAL = "all whole disks; partitions, dm, md and loop devices count in the disks they are on"


class DiskCollector(Collector):
    """Traffic, waiting and load of whole disks: together, and of those that did most one by one."""

    name = "disk"
    cost = "one file; which disks there are once a minute"
    Settings = DeviceSettings
    metrics = (
        Metric("host.disk.read.bytes_per_s", "bytes/s", _SOURCE, f"read: {_TOTAL}"),
        Metric("host.disk.written.bytes_per_s", "bytes/s", _SOURCE, f"written: {_TOTAL}"),
        Metric("host.disk.reads_per_s", "1/s", _SOURCE, "read requests done, all disks"),
        Metric("host.disk.writes_per_s", "1/s", _SOURCE, "write requests done, all disks"),
        Metric("host.disk.busy_max.percent", "%", _SOURCE, "the busiest disk's share of busy time"),
        Metric("host.disk.wait_max.seconds", "s", _SOURCE, "the slowest disk's mean time per request"),
        Metric("host.disk.#.read.bytes_per_s", "bytes/s", _SOURCE, "read from this disk"),
        Metric("host.disk.#.written.bytes_per_s", "bytes/s", _SOURCE, "written to this disk"),
        Metric("host.disk.#.reads_per_s", "1/s", _SOURCE, "read requests done by this disk"),
        Metric("host.disk.#.writes_per_s", "1/s", _SOURCE, "write requests done by this disk"),
        Metric(
            "host.disk.#.busy.percent",
            "%",
            _SOURCE,
            "share of time with a request under way; a disk that serves many at once can do more at 100 %",
        ),
        Metric(
            "host.disk.#.wait.seconds",
            "s",
            _SOURCE,
            "mean time from request to answer, queue included; none without requests",
        ),
        Metric("host.disk.#.queue.count", "", _SOURCE, "mean number of requests under way"),
    )

    def __init__(self, context: Context | None = None) -> None:
        super().__init__(context)
        self._growth = DeviceGrowth()
        self._names = MetricNames()
        self._whole: frozenset[str] = frozenset()
        self._seen: frozenset[str] = frozenset()
        self._scanned_at = 0.0

    def sample(self) -> Reading:
        now = self.context.monotonic()
        counters = self._without_doubles(self._read())
        if not counters:
            raise NothingHere("no disks in /proc/diskstats")
        interval = self._growth.since(counters, now)
        names = self._names.of(self._named(counters))
        return Reading({} if interval is None else _values(interval, counters, names))

    def _read(self) -> dict[str, dict[str, float]]:
        """Return the counters of whole disks."""
        rows = [line.split() for line in self.context.kernel.lines("proc/diskstats")]
        found = {row[2]: row for row in rows if len(row) > 2}
        self._scan(frozenset(found))
        disks = {name: parse_counters(found[name], _COLUMNS) for name in found if name in self._whole}
        return {name: values for name, values in disks.items() if values is not None}

    def _scan(self, seen: frozenset[str]) -> None:
        """Find out which names are whole disks that stand on nothing else."""
        now = self.context.monotonic()
        if seen == self._seen and now - self._scanned_at < RESCAN_S:
            return
        self._seen, self._scanned_at = seen, now
        links = {name: self.context.kernel.link(f"sys/block/{name.replace('/', '!')}") for name in seen}
        self._whole = frozenset(
            name for name, link in links.items() if link and (_VIRTUAL not in link or _REMOTE.search(link))
        )

    @staticmethod
    def _without_doubles(counters: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
        """Count an NVMe disk of several paths once: Linux before 6.3 counts at the paths, later at both."""
        doubles = set()
        for name in counters:
            path = _PATH.fullmatch(name)
            disk = path and path.group(1) + path.group(2)
            if disk in counters:
                doubles.add(name if _requests(counters[disk]) else disk)
        return {name: values for name, values in counters.items() if name not in doubles}

    def _named(self, counters: dict[str, dict[str, float]]) -> list[str]:
        """Return the disks that get values of their own: those that did most, none that did nothing."""
        used = {name: values["sectors_read"] + values["sectors_written"] for name, values in counters.items()}
        most = sorted((name for name in used if used[name]), key=lambda name: (-used[name], name))
        return most[: devices_max(self.context.settings)]


def _requests(values: Mapping[str, float]) -> float:
    return values["reads"] + values["writes"]


#: Rates that disks have together and one by one: name, counter, factor.
_RATES = (
    ("read.bytes_per_s", "sectors_read", SECTOR_BYTES),
    ("written.bytes_per_s", "sectors_written", SECTOR_BYTES),
    ("reads_per_s", "reads", 1),
    ("writes_per_s", "writes", 1),
)


def _values(interval: Interval, disks: Collection[str], names: Mapping[str, str]) -> dict[str, float]:
    values = {}
    for what, counter, factor in _RATES:
        total = interval.total_per_second(counter, disks)
        if total is not None:
            values[f"host.disk.{what}"] = total * factor
    single = {disk: _of_one(grown, interval.seconds) for disk, grown in interval.grown.items()}
    for what in ("busy.percent", "wait.seconds"):
        each = [own[what] for own in single.values() if what in own]
        if each:
            values[f"host.disk.{what.replace('.', '_max.')}"] = max(each)
    for disk, name in names.items():
        values |= {f"host.disk.{name}.{what}": value for what, value in single.get(disk, {}).items()}
    return values


def _of_one(grown: Mapping[str, float], seconds: float) -> dict[str, float]:
    values = {what: grown[counter] * factor / seconds for what, counter, factor in _RATES}
    # The kernel's clock and ours were read at slightly different times.
    values["busy.percent"] = min(100.0, grown["busy_ms"] / 10 / seconds)
    values["queue.count"] = grown["queue_ms"] / 1000 / seconds
    requests = _requests(grown)
    if requests:
        values["wait.seconds"] = (grown["read_ms"] + grown["write_ms"]) / 1000 / requests
    return values
