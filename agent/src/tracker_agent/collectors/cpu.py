"""cpu: how busy the processors are, from /proc/stat and /proc/loadavg."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import psutil

from .collector import Collector, Context, Metric, Reading

#: Times that `user` and `nice` of /proc/stat already contain.
_COUNTED_ELSEWHERE = ("guest", "guest_nice")
_BUSY_CORE_PERCENT = 95.0


class CpuCollector(Collector):
    """CPU time since the sample before, as percent of all cores together."""

    name = "cpu"
    metrics = (
        Metric("host.cpu.percent", "%", "/proc/stat", "time not idle, all cores together"),
        Metric("host.cpu.user.percent", "%", "/proc/stat", "time in programs, nice included"),
        Metric("host.cpu.system.percent", "%", "/proc/stat", "time in the kernel, interrupts included"),
        Metric("host.cpu.iowait.percent", "%", "/proc/stat", "idle time while a disk was waited for"),
        Metric("host.cpu.steal.percent", "%", "/proc/stat", "time the hypervisor gave to other machines"),
        Metric("host.cpu.core_max.percent", "%", "/proc/stat", "the busiest core"),
        Metric(
            "host.cpu.cores_busy.count", "cores", "/proc/stat", "cores busy for more than 95 % of the time"
        ),
        Metric("host.cpu.load1", "", "/proc/loadavg", "processes that run or wait, mean of one minute"),
    )

    def __init__(
        self,
        context: Context | None = None,
        read_times: Callable[[], Sequence[Any]] = lambda: psutil.cpu_times(percpu=True),
        read_load: Callable[[], tuple[float, float, float]] = os.getloadavg,
    ) -> None:
        super().__init__(context)
        self._read_times = read_times
        self._read_load = read_load
        self._before: list[dict[str, float]] = []

    def sample(self) -> Reading:
        values = {"host.cpu.load1": self._read_load()[0]}
        times = [dict(core._asdict()) for core in self._read_times()]
        before, self._before = self._before, times
        # A core that went off- or online shifts the list: nothing to compare with.
        if len(before) == len(times):
            values.update(_percents(before, times))
        return Reading(values)

    def close(self) -> None:
        """Hold nothing."""


def _percents(before: list[dict[str, float]], after: list[dict[str, float]]) -> dict[str, float]:
    cores = [_spent(old, new) for old, new in zip(before, after, strict=True)]
    spent = {kind: sum(core.get(kind, 0.0) for core in cores) for kind in (cores[0] if cores else {})}
    total = sum(spent.values())
    if total <= 0:
        return {}

    def percent(*kinds: str) -> float:
        return 100.0 * sum(spent.get(kind, 0.0) for kind in kinds) / total

    busy = [_busy_percent(core) for core in cores]
    return {
        "host.cpu.percent": 100.0 - percent("idle", "iowait"),
        "host.cpu.user.percent": percent("user", "nice"),
        "host.cpu.system.percent": percent("system", "irq", "softirq"),
        "host.cpu.iowait.percent": percent("iowait"),
        "host.cpu.steal.percent": percent("steal"),
        "host.cpu.core_max.percent": max(busy),
        "host.cpu.cores_busy.count": float(sum(each > _BUSY_CORE_PERCENT for each in busy)),
    }


def _spent(old: dict[str, float], new: dict[str, float]) -> dict[str, float]:
    # iowait and steal are known to go backwards (proc(5)); time spent is never negative.
    return {
        kind: max(0.0, new[kind] - old.get(kind, new[kind])) for kind in new if kind not in _COUNTED_ELSEWHERE
    }


def _busy_percent(core: dict[str, float]) -> float:
    total = sum(core.values())
    idle = core.get("idle", 0.0) + core.get("iowait", 0.0)
    return 100.0 * (total - idle) / total if total > 0 else 0.0
