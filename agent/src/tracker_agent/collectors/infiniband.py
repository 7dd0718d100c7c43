"""infiniband: traffic, faults and links of InfiniBand, RoCE and EFA ports, from /sys/class/infiniband.

What RDMA moves never shows in /proc/net/dev; what IP over InfiniBand moves shows in both.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from .collector import Collector, Context, Event, Metric, NothingHere, Reading
from .devices import DeviceGrowth, DeviceSettings, MetricNames, devices_max
from .infiniband_counters import FAULTS, TRAFFIC, Counter, choose_files, read_counters
from .kernel import Kernel
from .link_changes import LinkChanges

#: Links and faults are looked at this often; traffic each sample.
FAULTS_S = 10.0
#: Which ports there are, and which files they offer, is found out again this often.
RESCAN_S = 60.0
_CLASS = "sys/class/infiniband"
_ACTIVE = "4"
_RATE = re.compile(r"(\d+(?:\.\d+)?) Gb/sec")
_SOURCE = "/sys/class/infiniband/*/ports/*"


def _metrics() -> Iterator[Metric]:
    for counter in (*TRAFFIC, *FAULTS):
        source = f"{_SOURCE}/{counter.files[0]}"
        slow = "" if counter in TRAFFIC else "; the mean of 10 s"
        yield Metric(
            f"host.infiniband.{counter.what}", counter.unit, source, f"{counter.meaning}, all ports{slow}"
        )
        slow += "" if counter in TRAFFIC else "; none while it never counted anything"
        yield Metric(f"host.infiniband.#.{counter.what}", counter.unit, source, f"{counter.meaning}{slow}")
    yield Metric(
        "host.infiniband.ports_down.count",
        "",
        f"{_SOURCE}/state",
        "ports that carried data and are not active",
    )
    yield Metric("host.infiniband.#.link_up.count", "", f"{_SOURCE}/state", "1 where active, 0 where not")
    yield Metric(
        "host.infiniband.#.speed.bytes_per_s", "bytes/s", f"{_SOURCE}/rate", "what the link can carry"
    )


class _Port(NamedTuple):
    name: str
    path: str
    traffic: tuple[Counter, ...]
    faults: tuple[Counter, ...]
    #: An Ethernet port is a network interface too, whose collector tells of its link.
    has_events: bool


class InfinibandCollector(Collector):
    """Traffic, faults and links of InfiniBand, RoCE and EFA ports: mlx5_0_1 is port 1 of mlx5_0."""

    name = "infiniband"
    cost = "four small files per port, and each 10 s some thirty; some cards ask their firmware for each"
    Settings = DeviceSettings
    metrics = tuple(_metrics())

    def __init__(self, context: Context | None = None) -> None:
        super().__init__(context)
        self._traffic, self._faults = DeviceGrowth(), DeviceGrowth()
        self._names = MetricNames()
        self._links = LinkChanges()
        self._ports: tuple[_Port, ...] = ()
        #: Ports that were active or carried something; the others have no cable.
        self._used: set[str] = set()
        self._scanned_at = self._looked_at = float("-inf")
        #: What the last look at faults and links brought, shown until the next.
        self._slow: dict[str, float] = {}
        self._slow_problems: list[str] = []

    def sample(self) -> Reading:
        kernel, now = self.context.kernel, self.context.monotonic()
        if now - self._scanned_at >= RESCAN_S:
            self._scanned_at = now
            self._ports = tuple(_find_ports(kernel))
        if not self._ports:
            raise NothingHere("no ports in /sys/class/infiniband")
        counters, problems = self._read([(port, port.traffic) for port in self._ports])
        self._used |= {port for port, each in counters.items() if any(each.values())}
        events: list[Event] = []
        if now - self._looked_at >= FAULTS_S:
            self._looked_at = now
            events = self._look(now)
        values = _rates(self._traffic, counters, self._shown(), now)
        return Reading(self._slow | values, tuple(problems + self._slow_problems), events=tuple(events))

    def _shown(self) -> dict[str, str]:
        """Return the ports that have values of their own, and the names they have."""
        used = [port.name for port in self._ports if port.name in self._used]
        return self._names.of(used[: devices_max(self.context.settings)])

    def _look(self, now: float) -> list[Event]:
        """Read what changes seldom: states, speeds and faults."""
        kernel = self.context.kernel
        counters, self._slow_problems = self._read([(port, port.faults) for port in self._ports])
        states = {port.name: kernel.word(f"{port.path}/state") for port in self._ports}
        up = {name: state.startswith(_ACTIVE + ":") for name, state in states.items() if state}
        self._used = (self._used | {name for name in up if up[name]}) & set(states)
        shown = self._shown()
        # Faults that never happened on a port would be hundreds of zeros on a machine of many ports.
        own = {name: [what for what, count in each.items() if count] for name, each in counters.items()}
        values = _rates(self._faults, counters, shown, now, own)
        values["host.infiniband.ports_down.count"] = float(
            sum(name in self._used and not active for name, active in up.items())
        )
        events = []
        for port in self._ports:
            if port.name not in up:
                continue
            if port.has_events:
                downed = int(counters[port.name].get("link_downed_per_s", 0))
                event = self._links.look(port.name, up[port.name], downed, now, self.context.wall_ns())
                events += [] if event is None else [event]
            if port.name in shown:
                prefix = f"host.infiniband.{shown[port.name]}."
                values[prefix + "link_up.count"] = float(up[port.name])
                speed = _speed(kernel.word(f"{port.path}/rate"))
                if up[port.name] and speed is not None:
                    values[prefix + "speed.bytes_per_s"] = speed
        self._links.keep(set(states))
        self._slow = values
        return events

    def _read(
        self, wanted: Iterable[tuple[_Port, tuple[Counter, ...]]]
    ) -> tuple[dict[str, dict[str, float]], list[str]]:
        counters, problems = {}, []
        for port, each in wanted:
            counters[port.name], full = read_counters(self.context.kernel, port.path, each)
            problems += [f"{port.name}: {file} is full and counts no more until a reset" for file in full]
        return counters, problems


def _find_ports(kernel: Kernel) -> Iterator[_Port]:
    for device in kernel.names(_CLASS):
        for number in kernel.names(f"{_CLASS}/{device}/ports"):
            path = f"{_CLASS}/{device}/ports/{number}"
            there = {
                f"{directory}/{file}"
                for directory in ("counters", "hw_counters")
                for file in kernel.names(f"{path}/{directory}")
            }
            layer = kernel.word(f"{path}/link_layer")
            yield _Port(
                f"{device}_{number}",
                path,
                choose_files(TRAFFIC, there),
                choose_files(FAULTS, there),
                layer != "Ethernet",
            )


def _rates(
    growth: DeviceGrowth,
    counters: Mapping[str, Mapping[str, float]],
    names: Mapping[str, str],
    now: float,
    own: Mapping[str, list[str]] | None = None,
) -> dict[str, float]:
    """Return totals, and for named ports single rates: of all counters, or of those listed in own."""
    interval = growth.since(counters, now)
    values: dict[str, float] = {}
    if interval is None:
        return values
    for what in dict.fromkeys(what for each in counters.values() for what in each):
        total = interval.total_per_second(what, counters)
        if total is not None:
            values[f"host.infiniband.{what}"] = total
    for port, name in names.items():
        for what in counters.get(port, {}) if own is None else own[port]:
            rate = interval.per_second(port, what)
            if rate is not None:
                values[f"host.infiniband.{name}.{what}"] = rate
    return values


def _speed(rate: str | None) -> float | None:
    """Return bytes per second from "400 Gb/sec (4X NDR)"."""
    match = _RATE.match(rate or "")
    return float(match.group(1)) * 1e9 / 8 if match else None
