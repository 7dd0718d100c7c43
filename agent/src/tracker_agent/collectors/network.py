"""network: traffic and faults of the machine's interfaces, from /proc/net/dev."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import psutil

from .collector import Collector, Context, Metric, Reading
from .rates import Rates

#: Interfaces that only pass on what a real one carries, or lead nowhere.
_VIRTUAL = (
    "lo",
    "veth",
    "docker",
    "br-",
    "virbr",
    "cali",
    "cni",
    "flannel",
    "vxlan",
    "tun",
    "tap",
    "dummy",
    "bond",
)


class NetworkCollector(Collector):
    """Rates over all real interfaces together."""

    name = "network"
    metrics = (
        Metric(
            "host.network.received.bytes_per_s", "bytes/s", "/proc/net/dev", "received, all real interfaces"
        ),
        Metric("host.network.sent.bytes_per_s", "bytes/s", "/proc/net/dev", "sent, all real interfaces"),
        Metric("host.network.errors_per_s", "1/s", "/proc/net/dev", "packets damaged, both directions"),
        Metric("host.network.drops_per_s", "1/s", "/proc/net/dev", "packets dropped, both directions"),
    )

    def __init__(
        self,
        context: Context | None = None,
        read_counters: Callable[[], Mapping[str, Any]] = lambda: psutil.net_io_counters(
            # psutil's nowrap hides counters that start again; Rates wants to see them.
            pernic=True,
            nowrap=False,
        ),
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(context)
        self._read_counters = read_counters
        self._monotonic = monotonic
        self._rates = {metric.name: Rates() for metric in self.metrics}

    def sample(self) -> Reading:
        now = self._monotonic()
        nics = {name: nic for name, nic in self._read_counters().items() if not name.startswith(_VIRTUAL)}
        counters = {
            "host.network.received.bytes_per_s": {name: nic.bytes_recv for name, nic in nics.items()},
            "host.network.sent.bytes_per_s": {name: nic.bytes_sent for name, nic in nics.items()},
            "host.network.errors_per_s": {name: nic.errin + nic.errout for name, nic in nics.items()},
            "host.network.drops_per_s": {name: nic.dropin + nic.dropout for name, nic in nics.items()},
        }
        if not nics:
            return Reading({})
        rates = {name: self._rates[name].per_second(each, now) for name, each in counters.items()}
        return Reading({name: rate for name, rate in rates.items() if rate is not None})

    def close(self) -> None:
        """Hold nothing."""
