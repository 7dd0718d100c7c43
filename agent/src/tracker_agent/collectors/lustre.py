"""lustre: what this client does on its Lustre file systems, from /proc/fs/lustre/llite."""

from __future__ import annotations

import re

from .collector import Collector, Context, Metric, NothingHere, Reading
from .devices import DeviceGrowth, DeviceSettings, MetricNames, devices_max, parse_counter, parse_counters

#: Where they are: in /proc, or for root only in debugfs (since Lustre 2.10).
_PLACES = ("proc/fs/lustre/llite", "sys/kernel/debug/lustre/llite")
#: A client's directory is the file system's name and the address of a structure in memory.
_ADDRESS = re.compile(r"-[0-9a-f]{8,16}$")
_SOURCE = "/proc/fs/lustre/llite/*/stats"
_RATES = {"read.bytes_per_s": "read", "written.bytes_per_s": "written", "ops_per_s": "ops"}


class LustreCollector(Collector):
    """Traffic and operations of this client on each Lustre file system, and on all."""

    name = "lustre"
    cost = "one file per Lustre mount"
    interval_s = 10.0
    Settings = DeviceSettings
    metrics = (
        Metric("host.lustre.read.bytes_per_s", "bytes/s", _SOURCE, "read by programs, all Lustre mounts"),
        Metric("host.lustre.written.bytes_per_s", "bytes/s", _SOURCE, "written by programs, all of them"),
        Metric("host.lustre.ops_per_s", "1/s", _SOURCE, "open, stat, mkdir and the like, all of them"),
        Metric(
            "host.lustre.#.read.bytes_per_s",
            "bytes/s",
            _SOURCE,
            "read by programs from this file system, the client's cache included",
        ),
        Metric("host.lustre.#.written.bytes_per_s", "bytes/s", _SOURCE, "written by programs to it"),
        Metric("host.lustre.#.ops_per_s", "1/s", _SOURCE, "open, stat, mkdir and the like"),
    )

    def __init__(self, context: Context | None = None) -> None:
        super().__init__(context)
        self._growth = DeviceGrowth()
        self._names = MetricNames()

    def sample(self) -> Reading:
        kernel = self.context.kernel
        now = self.context.monotonic()
        mounts = {}
        for place in _PLACES:
            for directory in kernel.names(place):
                counters = parse_llite(kernel.lines(f"{place}/{directory}/stats"))
                if counters:
                    mounts[directory] = counters
            if mounts:
                break
        if not mounts:
            raise NothingHere("no Lustre mounts, or their counters are root's alone")
        named = sorted(mounts)[: devices_max(self.context.settings)]
        # The address changes with each mount; the name in the metrics should not.
        shown = {directory: _ADDRESS.sub("", directory) for directory in named}
        unique = {
            directory: name for directory, name in shown.items() if list(shown.values()).count(name) == 1
        }
        names = self._names.of(unique.get(directory, directory) for directory in named)
        interval = self._growth.since(mounts, now)
        values: dict[str, float] = {}
        if interval is None:
            return Reading(values)
        for what, counter in _RATES.items():
            total = interval.total_per_second(counter, mounts)
            if total is not None:
                values[f"host.lustre.{what}"] = total
            for directory in named:
                rate = interval.per_second(directory, counter)
                if rate is not None:
                    values[f"host.lustre.{names[unique.get(directory, directory)]}.{what}"] = rate
        return Reading(values)


def parse_llite(lines: list[str]) -> dict[str, float]:
    """Return bytes and operations from lines such as "read_bytes 5 samples [bytes] 1 4096 10240".

    What has never happened has no line; a file without any is of no mount, and gives an empty result.
    """
    counters = {"read": 0.0, "written": 0.0, "ops": 0.0}
    for line in lines:
        words = line.split()
        if len(words) < 4 or words[2] != "samples":
            continue
        if words[3] == "[bytes]":
            key = {"read_bytes": "read", "write_bytes": "written"}.get(words[0])
            if key is not None:
                counters |= parse_counters(words, {key: 6}) or {}
        elif words[3] in ("[reqs]", "[regs]", "[usec]", "[usecs]") and words[0] not in ("read", "write"):
            counters["ops"] += parse_counter(words[1]) or 0.0
    return counters if lines else {}
