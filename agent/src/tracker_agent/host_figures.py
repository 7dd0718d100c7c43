"""The machine's figures for Prometheus: node_exporter's and DCGM's names, and what collectors measured.

What the kernel answers from memory is read anew; what can hang (file systems, GPUs) is taken from the
collectors' last samples, and left out where the last one failed.
"""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from prometheus_client.core import GaugeMetricFamily, Metric

from .collectors import collector
from .collectors.chosen import COLLECTORS
from .collectors.collector import Event
from .gpu_figures import gpu_figures
from .node_figures import NodeFigures
from .sampler import LastReading

PREFIX = "tracker_"
#: Series of values from elsewhere: whoever wants those asks there.
_FOREIGN = "openmetrics"
_NAMES_MAX = 20_000


@dataclass(frozen=True)
class Sampled:
    """What the sampler has at one moment. Nothing in it changes any more."""

    readings: Mapping[str, LastReading]
    events: Sequence[Event] = ()


class HostFigures:
    """Everything about the machine; read() may be called in any thread, by one at a time."""

    def __init__(
        self,
        node: NodeFigures,
        sampled: Callable[[], Sampled],
        host: str,
        wall_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        """sampled: called in the event loop. host: the name that GPUs are labelled with."""
        self.sampled = sampled
        self._node = node
        self._host = host
        self._wall_ns = wall_ns
        self._gauges = Gauges(
            [metric for name, kind in COLLECTORS.items() if name != _FOREIGN for metric in kind.metrics]
        )

    def read(self, sampled: Sampled) -> Iterable[Metric]:
        """Yield every figure."""
        figures, well = self._node.read()
        yield from figures
        parts = GaugeMetricFamily(
            "tracker_agent_host_part_well", "0: these figures of the kernel cannot be read", labels=("part",)
        )
        for part, is_well in well.items():
            parts.add_metric((part,), float(is_well))
        yield parts
        yield from filesystem_figures(sampled.readings.get("filesystem"))
        nvidia = sampled.readings.get("nvidia")
        if nvidia is not None:
            gpus = (nvidia.facts or {}).get("gpus", ())
            yield from gpu_figures(nvidia.values, gpus, self._host, sampled.events, self._wall_ns())
        yield from self._gauges.of(
            {
                name: value
                for kind, reading in sampled.readings.items()
                if kind != _FOREIGN
                for name, value in reading.values.items()
            }
        )
        yield _ages(sampled.readings)


class Place(NamedTuple):
    """Where a value goes: the metric, and its labels' names and values."""

    metric: str
    text: str
    labels: tuple[str, ...]
    values: tuple[str, ...]


class Gauges:
    """Turns values such as host.gpu.0.power.watts into tracker_host_gpu_power_watts{gpu="0"}.

    `#` in the table of metrics becomes a label called by the word before it. Where a total has the name
    that is left, `#` stays as the word `device`: host.disk.#.read.bytes_per_s is
    tracker_host_disk_device_read_bytes_per_second{disk="…"}.
    """

    def __init__(self, metrics: Sequence[collector.Metric]) -> None:
        totals = {_plain(metric.name) for metric in metrics if "#" not in metric.name}
        self._plain = {metric.name: metric for metric in metrics if "#" not in metric.name}
        self._patterns = [
            (_pattern(metric.name), _labelled(metric, totals))
            # What has the most words of its own first: "host.x.#.inodes.percent" before "host.x.#.percent".
            for metric in sorted(metrics, key=lambda each: -len(each.name))
            if "#" in metric.name
        ]
        self._places: dict[str, Place | None] = {}

    def of(self, values: Mapping[str, float]) -> Iterable[Metric]:
        """Yield the gauges. A value that stands in no table is left out."""
        families: dict[str, GaugeMetricFamily] = {}
        for name, value in values.items():
            place = self._place(name)
            if place is None:
                continue
            family = families.get(place.metric)
            if family is None:
                family = families[place.metric] = GaugeMetricFamily(
                    place.metric, place.text, labels=place.labels
                )
            family.add_metric(place.values, value)
        return families.values()

    def _place(self, name: str) -> Place | None:
        if name not in self._places:
            if len(self._places) >= _NAMES_MAX:
                # Devices that come and go for ever.
                self._places.clear()
            self._places[name] = self._find(name)
        return self._places[name]

    def _find(self, name: str) -> Place | None:
        metric = self._plain.get(name)
        if metric is not None:
            return Place(_plain(name), _text(metric), (), ())
        for pattern, place in self._patterns:
            match = pattern.fullmatch(name)
            if match:
                return place._replace(values=match.groups())
        return None


def _plain(name: str) -> str:
    """Return a name as Prometheus wants it: no abbreviated units, no word at the end that means a type."""
    name = name.removesuffix(".count").removesuffix(".total")
    name = PREFIX + re.sub(r"[^A-Za-z0-9_]", "_", name)
    return re.sub(r"_per_s$", "_per_second", name)


def _labelled(metric: collector.Metric, totals: set[str]) -> Place:
    words = metric.name.split(".")
    labels = tuple(
        re.sub(r"[^a-z0-9_]", "_", before) for before, word in itertools.pairwise(words) if word == "#"
    )
    name = _plain(".".join(word for word in words if word != "#"))
    if name in totals:
        name = _plain(".".join("device" if word == "#" else word for word in words))
    return Place(name, _text(metric), labels, ())


def _pattern(name: str) -> re.Pattern[str]:
    return re.compile(".".join("(.+)" if word == "#" else re.escape(word) for word in name.split(".")))


def _text(metric: collector.Metric) -> str:
    return f"{metric.meaning} ({metric.source})"


def _ages(readings: Mapping[str, LastReading]) -> Metric:
    ages = GaugeMetricFamily(
        "tracker_agent_collector_age_seconds",
        "Time since the sample that the figures of a collector are from",
        labels=("collector",),
    )
    for name, reading in readings.items():
        ages.add_metric((name,), reading.age_s)
    return ages


#: node_exporter's figures of file systems: what follows node_filesystem_, ours, and what it is.
_FILESYSTEM = (
    ("size_bytes", "total.bytes", "Size of the file system"),
    ("free_bytes", "free.bytes", "Space nobody has taken, root's reserve included"),
    ("avail_bytes", "available.bytes", "Space that users may take"),
    ("files", "inodes.total.count", "Inodes there can be"),
    ("files_free", "inodes.free.count", "Inodes there can be more"),
    ("readonly", "read_only.count", "1: nothing can be written"),
)


def filesystem_figures(reading: LastReading | None) -> Iterable[Metric]:
    """Yield node_exporter's figures of file systems, from the collector's last sample."""
    mounts: Sequence[Mapping[str, Any]] = ((reading and reading.facts) or {}).get("filesystems", ())
    values = reading.values if reading is not None else {}
    for what, ours, text in _FILESYSTEM:
        family = GaugeMetricFamily(f"node_filesystem_{what}", text, labels=("device", "fstype", "mountpoint"))
        for mount in mounts:
            value = values.get(f"host.filesystem.{mount['name']}.{ours}")
            if value is not None:
                family.add_metric((mount["device"], mount["type"], mount["mount"]), value)
        if family.samples:
            yield family
