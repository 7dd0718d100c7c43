"""network: traffic, faults and links of the machine's interfaces, from /proc/net/dev and sysfs."""

from __future__ import annotations

from collections.abc import Mapping

from .collector import Collector, Context, Event, Metric, Reading
from .devices import Counters, DeviceGrowth, DeviceSettings, MetricNames, devices_max, parse_counters
from .interfaces import INFINIBAND, Interfaces, find_interfaces
from .link_changes import LinkChanges

#: Which interfaces count, and their speeds, are looked up again when others appear, and this often.
RESCAN_S = 60.0
#: Megabit, in bytes: the unit of sysfs.
_SPEED_BYTES = 125_000
#: A card that does not know says -1, in some kernels as a positive number.
_SPEED_MAX = 2**31

#: Where the counters stand in a line of /proc/net/dev, behind the name.
_COLUMNS = {
    "received": 0,
    "received_packets": 1,
    "received_errors": 2,
    "received_drops": 3,
    "sent": 8,
    "sent_packets": 9,
    "sent_errors": 10,
    "sent_drops": 11,
}
#: Name of the rate, and the counters that it is the sum of.
_RATES = (
    ("received.bytes_per_s", ("received",)),
    ("sent.bytes_per_s", ("sent",)),
    ("received.packets_per_s", ("received_packets",)),
    ("sent.packets_per_s", ("sent_packets",)),
    ("errors_per_s", ("received_errors", "sent_errors")),
    ("drops_per_s", ("received_drops", "sent_drops")),
)
_SOURCE = "/proc/net/dev"
_SOFTNET = "/proc/net/softnet_stat"
_COUNTED = (
    "cards only (/sys/class/net/#/device), a bond's cards one by one; bonds, VLANs, bridges, veth and "
    "loopback do not count again. In a container without cards: what leads out of it. All of it in the "
    "agent's network namespace, so the machine's only where the agent runs in the host's"
)


class NetworkCollector(Collector):
    """Traffic and faults of real interfaces, together and one by one; links that come and go as events."""

    name = "network"
    cost = "two files and one per named interface; which interfaces there are once a minute"
    Settings = DeviceSettings
    metrics = (
        Metric("host.network.received.bytes_per_s", "bytes/s", _SOURCE, f"received: {_COUNTED}"),
        Metric("host.network.sent.bytes_per_s", "bytes/s", _SOURCE, "sent, the same interfaces"),
        Metric("host.network.received.packets_per_s", "1/s", _SOURCE, "received, the same interfaces"),
        Metric("host.network.sent.packets_per_s", "1/s", _SOURCE, "sent, the same interfaces"),
        Metric("host.network.errors_per_s", "1/s", _SOURCE, "packets damaged, both directions"),
        Metric(
            "host.network.drops_per_s",
            "1/s",
            _SOURCE,
            "packets dropped, both directions; those of protocols nobody listens to are among them",
        ),
        Metric(
            "host.network.softnet_drops_per_s",
            "1/s",
            _SOFTNET,
            "packets dropped because a core's queue was full; of the whole machine in containers too",
        ),
        Metric(
            "host.network.softnet_squeezed_per_s",
            "1/s",
            _SOFTNET,
            "times a core ran out of its budget with packets left; of the whole machine in containers too",
        ),
        Metric(
            "host.network.#.received.bytes_per_s",
            "bytes/s",
            _SOURCE,
            "received by this card, bond, VLAN or bridge that leads outside; none that never carried a byte",
        ),
        Metric("host.network.#.sent.bytes_per_s", "bytes/s", _SOURCE, "sent by this interface"),
        Metric("host.network.#.received.packets_per_s", "1/s", _SOURCE, "received by this interface"),
        Metric("host.network.#.sent.packets_per_s", "1/s", _SOURCE, "sent by this interface"),
        Metric("host.network.#.errors_per_s", "1/s", _SOURCE, "packets damaged, both directions"),
        Metric("host.network.#.drops_per_s", "1/s", _SOURCE, "packets dropped, both directions"),
        Metric(
            "host.network.#.speed.bytes_per_s",
            "bytes/s",
            "/sys/class/net/#/speed",
            "what the link can carry each way; a bond's is that of its cards together",
        ),
        Metric(
            "host.network.#.link_up.count",
            "",
            "/sys/class/net/#/carrier",
            "1 where the link is up, 0 where not",
        ),
    )

    def __init__(self, context: Context | None = None) -> None:
        super().__init__(context)
        self._growth = DeviceGrowth()
        self._cores = DeviceGrowth()
        self._names = MetricNames()
        self._links = LinkChanges()
        self._interfaces = Interfaces((), ())
        self._seen: frozenset[str] = frozenset()
        self._scanned_at = 0.0
        #: What sysfs said at the last scan, by interface.
        self._speeds: dict[str, float] = {}
        self._without_events: frozenset[str] = frozenset()

    def sample(self) -> Reading:
        now = self.context.monotonic()
        rows = {
            name.strip(): numbers.split()
            for name, _, numbers in (
                line.rpartition(":") for line in self.context.kernel.lines("proc/net/dev")
            )
            if name.strip()
        }
        counters = self._counters(rows, now)
        names = self._names.of(self._named(counters))
        values = self._rates(counters, names, now)
        values |= self._softnet(now)
        for interface, name in names.items():
            if interface in self._speeds:
                values[f"host.network.{name}.speed.bytes_per_s"] = self._speeds[interface]
        ups, events = self._look_at_links(names, now)
        values |= {f"host.network.{names[each]}.link_up.count": float(up) for each, up in ups.items()}
        return Reading(values, events=tuple(events))

    def _counters(self, rows: Mapping[str, list[str]], now: float) -> Counters:
        """Return the counters of the interfaces that matter."""
        seen = frozenset(rows)
        if seen != self._seen or now - self._scanned_at >= RESCAN_S:
            self._seen, self._scanned_at = seen, now
            self._scan()
        every = (*self._interfaces.counted, *self._interfaces.stacked)
        found = {name: parse_counters(rows.get(name, ()), _COLUMNS) for name in every}
        return {name: values for name, values in found.items() if values is not None}

    def _scan(self) -> None:
        kernel = self.context.kernel
        self._interfaces = find_interfaces(kernel, self._seen)
        every = (*self._interfaces.counted, *self._interfaces.stacked)
        speeds = {name: kernel.number(f"sys/class/net/{name}/speed") for name in every}
        self._speeds = {
            name: float(speed * _SPEED_BYTES)
            for name, speed in speeds.items()
            if speed is not None and 0 < speed < _SPEED_MAX
        }
        # The link of an InfiniBand port is the collector infiniband's to tell of.
        self._without_events = frozenset(
            name for name in every if kernel.number(f"sys/class/net/{name}/type") == INFINIBAND
        )

    def _named(self, counters: Counters) -> list[str]:
        """Return the interfaces that get values of their own: cards first, then those that carried most."""
        carried = {name: each["received"] + each["sent"] for name, each in counters.items()}
        most = sorted(
            (name for name in carried if carried[name]),
            key=lambda name: (name not in self._interfaces.counted, -carried[name], name),
        )
        return most[: devices_max(self.context.settings)]

    def _rates(self, counters: Counters, names: Mapping[str, str], now: float) -> dict[str, float]:
        interval = self._growth.since(counters, now)
        values: dict[str, float] = {}
        if interval is None:
            return values
        for what, parts in _RATES:
            totals = [interval.total_per_second(part, self._interfaces.counted) for part in parts]
            if None not in totals:
                values[f"host.network.{what}"] = sum(total or 0.0 for total in totals)
            for interface, name in names.items():
                grown = interval.grown.get(interface)
                if grown is not None:
                    total = sum(grown[part] for part in parts) / interval.seconds
                    values[f"host.network.{name}.{what}"] = total
        return values

    def _softnet(self, now: float) -> dict[str, float]:
        """Return what the cores could not take in; their counters are hexadecimal and of 32 bits."""
        cores = {}
        for number, line in enumerate(self.context.kernel.lines("proc/net/softnet_stat")):
            columns = line.split()
            # The 13th says which core it is; before Linux 5.10 only the order does.
            core = columns[12] if len(columns) > 12 else f"{number:08x}"
            counted = parse_counters(columns, {"drops": 1, "squeezed": 2}, base=16)
            if counted is not None:
                cores[core] = counted
        interval = self._cores.since(cores, now)
        values: dict[str, float] = {}
        if interval is None:
            return values
        for what in ("drops", "squeezed"):
            rate = interval.total_per_second(what, cores)
            if rate is not None:
                values[f"host.network.softnet_{what}_per_s"] = rate
        return values

    def _look_at_links(self, names: Mapping[str, str], now: float) -> tuple[dict[str, bool], list[Event]]:
        """Return which links are up, as far as that can be said, and what happened to them."""
        kernel, ups, events = self.context.kernel, {}, []
        for name in names:
            carrier = kernel.number(f"sys/class/net/{name}/carrier")
            changes = kernel.number(f"sys/class/net/{name}/carrier_changes")
            # An interface that was switched off answers EINVAL.
            if carrier is None and kernel.word(f"sys/class/net/{name}/operstate") is None:
                continue
            ups[name] = carrier == 1
            if name not in self._without_events:
                event = self._links.look(name, ups[name], changes or 0, now, self.context.wall_ns())
                events += [] if event is None else [event]
        self._links.keep(names)
        return ups, events
