"""nfs: what the NFS mounts do and how long their server takes, from /proc/self/mountstats."""

from __future__ import annotations

from collections.abc import Mapping

from .collector import Collector, Context, Metric, NothingHere, Reading
from .devices import DeviceGrowth, DeviceSettings, Interval, MetricNames, devices_max, parse_counters
from .kernel import Kernel
from .mounts import find_process, rank, read_mounts

_SOURCE = "/proc/self/mountstats"
#: The numbers in "bytes:" are read and written by programs (buffered, then direct), then by the server.
_SERVER_READ, _SERVER_WRITTEN = 4, 5
#: Columns of a line of "per-op statistics"; the first is the operation's name.
_OPERATION = {"ops": 1, "sent": 2, "timeouts": 3, "rtt_ms": 7, "exe_ms": 8}
_TOTALS = {
    "read.bytes_per_s": "read",
    "written.bytes_per_s": "written",
    "ops_per_s": "ops",
    "retransmits_per_s": "retransmits",
    "timeouts_per_s": "timeouts",
}


class NfsCollector(Collector):
    """Requests of the NFS mounts: how many, how long they took, how often they had to be sent again."""

    name = "nfs"
    cost = "one file, of about 4 KiB per NFS mount"
    interval_s = 10.0
    Settings = DeviceSettings
    metrics = (
        Metric("host.nfs.read.bytes_per_s", "bytes/s", _SOURCE, "read from all NFS servers"),
        Metric("host.nfs.written.bytes_per_s", "bytes/s", _SOURCE, "written to all NFS servers"),
        Metric("host.nfs.ops_per_s", "1/s", _SOURCE, "requests answered, all mounts"),
        Metric("host.nfs.retransmits_per_s", "1/s", _SOURCE, "requests sent again, all mounts"),
        Metric("host.nfs.timeouts_per_s", "1/s", _SOURCE, "requests given up or begun anew, all mounts"),
        Metric(
            "host.nfs.#.read.bytes_per_s",
            "bytes/s",
            _SOURCE,
            "read from this mount's server; # is the mount point, such as data_a for /data/a",
        ),
        Metric("host.nfs.#.written.bytes_per_s", "bytes/s", _SOURCE, "written to this mount's server"),
        Metric("host.nfs.#.ops_per_s", "1/s", _SOURCE, "requests answered"),
        Metric("host.nfs.#.retransmits_per_s", "1/s", _SOURCE, "requests sent again"),
        Metric("host.nfs.#.timeouts_per_s", "1/s", _SOURCE, "requests given up or begun anew"),
        Metric(
            "host.nfs.#.rtt.seconds", "s", _SOURCE, "mean time from sending a request to the server's answer"
        ),
        Metric(
            "host.nfs.#.exe.seconds",
            "s",
            _SOURCE,
            "mean time a request took in all, waiting to be sent included: what programs feel",
        ),
    )

    def __init__(self, context: Context | None = None) -> None:
        super().__init__(context)
        self._growth = DeviceGrowth()
        self._names = MetricNames()

    def sample(self) -> Reading:
        kernel = self.context.kernel
        process = find_process(kernel)
        now = self.context.monotonic()
        mounts = _without_doubles(kernel, process, parse_mountstats(kernel.lines(f"{process}/mountstats")))
        if not mounts:
            raise NothingHere("no NFS mounts")
        most = sorted(mounts, key=lambda point: (-mounts[point]["ops"], point))
        names = self._names.of(most[: devices_max(self.context.settings)])
        interval = self._growth.since(mounts, now)
        return Reading({} if interval is None else _values(interval, mounts, names))


def parse_mountstats(lines: list[str]) -> dict[str, dict[str, float]]:
    """Return the counters of each NFS mount, by mount point."""
    mounts: dict[str, dict[str, float]] = {}
    counters: dict[str, float] | None = None
    in_operations = False
    for line in lines:
        words = line.split()
        if line.startswith("device "):
            in_operations, counters = False, None
            point, _, kind = line.partition(" mounted on ")[2].rpartition(" with fstype ")
            if kind.split() and kind.split()[0] in ("nfs", "nfs4"):
                counters = dict.fromkeys(("ops", "retransmits", "timeouts", "rtt_ms", "exe_ms"), 0.0)
                # As in mountinfo, a space in a name is \040.
                mounts[point.replace("\\040", " ")] = counters
        elif counters is None or not words:
            continue
        elif words[0] == "bytes:" and len(words) > _SERVER_WRITTEN + 1:
            # Words that are no numbers leave out what they would have counted.
            counters |= parse_counters(words, {"read": _SERVER_READ + 1}) or {}
            counters |= parse_counters(words, {"written": _SERVER_WRITTEN + 1}) or {}
        elif words[0] == "per-op":
            in_operations = True
        elif in_operations:
            operation = parse_counters(words, _OPERATION)
            if operation is not None:
                sent = operation.pop("sent")
                operation["retransmits"] = max(0.0, sent - operation["ops"])
                for name, value in operation.items():
                    counters[name] += value
    return mounts


def _without_doubles(
    kernel: Kernel, process: str, mounts: Mapping[str, dict[str, float]]
) -> dict[str, dict[str, float]]:
    """Return one mount of each file system: all that show the same one show the same counters."""
    seen = sorted((mount for mount in read_mounts(kernel, process) if mount.point in mounts), key=rank)
    first: dict[str, str] = {}
    for mount in seen:
        first.setdefault(mount.device, mount.point)
    unknown = set(mounts) - {mount.point for mount in seen}
    return {point: mounts[point] for point in (*first.values(), *sorted(unknown))}


def _values(
    interval: Interval, mounts: Mapping[str, Mapping[str, float]], names: Mapping[str, str]
) -> dict[str, float]:
    values = {}
    for what, counter in _TOTALS.items():
        total = interval.total_per_second(counter, mounts)
        if total is not None:
            values[f"host.nfs.{what}"] = total
        for point, name in names.items():
            rate = interval.per_second(point, counter)
            if rate is not None:
                values[f"host.nfs.{name}.{what}"] = rate
    for point, name in names.items():
        grown = interval.grown.get(point, {})
        if grown.get("ops"):
            for which in ("rtt", "exe"):
                values[f"host.nfs.{name}.{which}.seconds"] = grown[f"{which}_ms"] / 1000 / grown["ops"]
    return values
