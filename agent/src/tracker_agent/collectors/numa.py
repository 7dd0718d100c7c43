"""numa: memory of each NUMA node, and allocations that had to go to another one."""

from __future__ import annotations

import re

from .collector import Collector, Context, Metric, NothingHere, Reading
from .growth import Growth

_NODES = "sys/devices/system/node"
_NODE = re.compile(r"node(\d+)")
_KIB = 1024
#: Nodes shown one by one; machines with more of them have the totals.
NODES_MAX = 16
#: numastat counts pages, whatever their size.
_RATES = {"numa_miss": "miss_per_s", "numa_foreign": "foreign_per_s"}


class NumaCollector(Collector):
    """Memory of each NUMA node, and allocations that went to another node than they wanted."""

    name = "numa"
    interval_s = 10.0
    cost = "two files for each node"
    metrics = (
        Metric(
            "host.numa.#.used.bytes", "bytes", "node#/meminfo", "memory of the node in use, cache included"
        ),
        Metric("host.numa.#.free.bytes", "bytes", "node#/meminfo", "memory of the node used for nothing"),
        Metric(
            "host.numa.#.miss_per_s", "1/s", "node#/numastat numa_miss", "pages here that wanted another node"
        ),
        Metric(
            "host.numa.#.foreign_per_s",
            "1/s",
            "node#/numastat numa_foreign",
            "pages that wanted this node and got another",
        ),
        Metric("host.numa.miss_per_s", "1/s", "node*/numastat", "pages on the wrong node, all nodes"),
        Metric(
            "host.numa.free_min.bytes", "bytes", "node*/meminfo", "free memory of the node with the least"
        ),
    )

    def __init__(self, context: Context | None = None) -> None:
        super().__init__(context)
        self._growth = Growth()

    def sample(self) -> Reading:
        names = self.context.kernel.names(_NODES)
        nodes = sorted(int(match[1]) for name in names if (match := _NODE.fullmatch(name)))
        sizes = {node: size for node in nodes if (size := self._size(node)) is not None}
        if len(sizes) < 2:
            # One node is the machine itself, which the collector memory measures.
            raise NothingHere("fewer than two NUMA nodes with memory")
        counters = {
            f"{node}.{_RATES[line]}": pages
            for node in sizes
            for line, pages in self.context.kernel.table(f"{_NODES}/node{node}/numastat").items()
            if line in _RATES
        }
        rates = self._growth.per_second(counters, self.context.monotonic())
        values = {"host.numa.free_min.bytes": float(min(free for _, free in sizes.values()))}
        misses = [rate for name, rate in rates.items() if name.endswith(".miss_per_s")]
        if misses:
            values["host.numa.miss_per_s"] = sum(misses)
        if len(sizes) <= NODES_MAX:
            for node, (total, free) in sizes.items():
                values[f"host.numa.{node}.used.bytes"] = float(total - free)
                values[f"host.numa.{node}.free.bytes"] = float(free)
            values |= {f"host.numa.{name}": rate for name, rate in rates.items()}
        return Reading(values)

    def _size(self, node: int) -> tuple[int, int] | None:
        """Return total and free bytes of a node; None where it has no memory."""
        found = {}
        for line in self.context.kernel.lines(f"{_NODES}/node{node}/meminfo"):
            # "Node 0 MemTotal:  131072 kB"
            words = line.split()
            if len(words) > 3 and words[3].isdecimal():
                found[words[2]] = int(words[3]) * _KIB
        total, free = found.get("MemTotal:", 0), found.get("MemFree:")
        return (total, free) if total and free is not None else None
