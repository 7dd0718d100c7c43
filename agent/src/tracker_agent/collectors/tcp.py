"""tcp: retransmissions, timeouts, refused connections and sockets, from /proc/net/{snmp,netstat,sockstat}."""

from __future__ import annotations

import os

from .collector import Collector, Context, Metric, NothingHere, Reading
from .devices import DeviceGrowth, parse_counter
from .kernel import Kernel

_SNMP, _NETSTAT, _SOCKSTAT = "/proc/net/snmp", "/proc/net/netstat", "/proc/net/sockstat"
#: Rates by what stands behind "host.tcp.": table, counter.
_RATES = {
    "sent_segments_per_s": ("Tcp", "OutSegs"),
    "retransmits_per_s": ("Tcp", "RetransSegs"),
    "resets_sent_per_s": ("Tcp", "OutRsts"),
    "timeouts_per_s": ("TcpExt", "TCPTimeouts"),
    "listen_drops_per_s": ("TcpExt", "ListenDrops"),
    "listen_overflows_per_s": ("TcpExt", "ListenOverflows"),
}


class TcpCollector(Collector):
    """How well TCP fares, over all connections of the agent's network namespace, IPv4 and IPv6."""

    name = "tcp"
    cost = "four files, which the kernel adds up over all cores"
    interval_s = 10.0
    metrics = (
        Metric(
            "host.tcp.sent_segments_per_s",
            "1/s",
            _SNMP,
            "sent, retransmissions left out; like all of these of the agent's network namespace, so the "
            "machine's only where the agent runs in the host's",
        ),
        Metric("host.tcp.retransmits_per_s", "1/s", _SNMP, "segments sent again"),
        Metric("host.tcp.retransmits.percent", "%", _SNMP, "of the segments sent; none where none were sent"),
        Metric("host.tcp.resets_sent_per_s", "1/s", _SNMP, "connections refused or broken off by this side"),
        Metric("host.tcp.timeouts_per_s", "1/s", _NETSTAT, "times an answer did not come at all"),
        Metric("host.tcp.listen_drops_per_s", "1/s", _NETSTAT, "connections dropped by listening sockets"),
        Metric("host.tcp.listen_overflows_per_s", "1/s", _NETSTAT, "those of them for a full queue"),
        Metric("host.tcp.established.count", "", _SNMP, "connections that are open"),
        Metric("host.tcp.sockets.count", "", _SOCKSTAT, "sockets in use, IPv4 and IPv6"),
        Metric("host.tcp.time_wait.count", "", _SOCKSTAT, "connections closed a moment ago"),
        Metric("host.tcp.orphans.count", "", _SOCKSTAT, "connections that no process holds any more"),
        Metric("host.tcp.memory.bytes", "bytes", _SOCKSTAT, "in buffers of sockets, of the whole machine"),
    )

    def __init__(self, context: Context | None = None) -> None:
        super().__init__(context)
        self._growth = DeviceGrowth()

    def sample(self) -> Reading:
        kernel = self.context.kernel
        now = self.context.monotonic()
        tables = _tables(kernel, "proc/net/snmp") | _tables(kernel, "proc/net/netstat")
        if "Tcp" not in tables:
            raise NothingHere("no TCP in /proc/net/snmp")
        counters = {
            what: tables[table][counter]
            for what, (table, counter) in _RATES.items()
            if counter in tables.get(table, {})
        }
        values = _sockets(kernel)
        if "CurrEstab" in tables["Tcp"]:
            values["host.tcp.established.count"] = tables["Tcp"]["CurrEstab"]
        interval = self._growth.since({"tcp": counters}, now)
        grown = interval.grown.get("tcp", {}) if interval else {}
        if interval is not None:
            values |= {f"host.tcp.{what}": growth / interval.seconds for what, growth in grown.items()}
        sent, again = grown.get("sent_segments_per_s"), grown.get("retransmits_per_s")
        if sent is not None and again is not None and sent + again > 0:
            # The kernel does not count a segment that is sent again as sent.
            values["host.tcp.retransmits.percent"] = 100.0 * again / (sent + again)
        return Reading(values)


def _tables(kernel: Kernel, name: str) -> dict[str, dict[str, float]]:
    """Return files of pairs of lines: the names of a protocol's counters, then the numbers."""
    lines = kernel.lines(name)
    tables = {}
    for above, below in zip(lines[::2], lines[1::2], strict=False):
        names, numbers = above.split(), below.split()
        if names and numbers and names[0] == numbers[0]:
            pairs = zip(names[1:], map(parse_counter, numbers[1:]), strict=False)
            # Some are negative: no limit to the connections is -1.
            tables[names[0].rstrip(":")] = {each: number for each, number in pairs if number is not None}
    return tables


def _sockets(kernel: Kernel) -> dict[str, float]:
    """Return the figures of /proc/net/sockstat: lines such as "TCP: inuse 10 orphan 0"."""
    found: dict[str, float] = {}
    for name in ("proc/net/sockstat", "proc/net/sockstat6"):
        for line in kernel.lines(name):
            protocol, *words = line.split() or [""]
            if protocol in ("TCP:", "TCP6:"):
                for word, number in zip(words[::2], map(parse_counter, words[1::2]), strict=False):
                    if number is not None:
                        found[word] = found.get(word, 0.0) + number
    names = {"inuse": "sockets.count", "tw": "time_wait.count", "orphan": "orphans.count"}
    values = {f"host.tcp.{name}": found[word] for word, name in names.items() if word in found}
    if "mem" in found:
        values["host.tcp.memory.bytes"] = found["mem"] * os.sysconf("SC_PAGE_SIZE")
    return values
