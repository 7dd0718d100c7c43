"""cpu: how busy the processors are, from /proc/stat and /proc/loadavg."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..settings import CollectorSettings, setting
from .collector import Collector, CollectorError, Context, Metric, NothingHere, Reading
from .growth import Growth

#: Columns of /proc/stat. `user` and `nice` contain the guests' times that stand behind `steal`.
_USER, _NICE, _SYSTEM, _IDLE, _IOWAIT, _IRQ, _SOFTIRQ, _STEAL = range(8)
_COLUMNS = 8
_BUSY_CORE_PERCENT = 95.0
#: Further than this (s) a counter does not stray by itself: a core that was off meanwhile, or a virtual
#: machine that was moved, has other times than before.
_JUMP_S = 3.0
#: Counters of /proc/stat and what their rate is called. "intr" begins with its total.
_RATES = {
    "ctxt": "host.cpu.context_switches_per_s",
    "intr": "host.cpu.interrupts_per_s",
    "processes": "host.cpu.forks_per_s",
}
_COUNTS = {"procs_running": "host.cpu.running.count", "procs_blocked": "host.cpu.blocked.count"}

_LOADS = ("host.cpu.load1", "host.cpu.load5", "host.cpu.load15")
_LOAD = re.compile(r"\d+\.\d+")
_THREADS = re.compile(r"\d+/\d+")

Times = Mapping[str, Sequence[int]]


@dataclass(frozen=True)
class CpuSettings(CollectorSettings):
    """The section [collectors.cpu]."""

    per_core: bool = setting(False, "each core on its own too, host.cpu.#.percent", reload=True)


class CpuCollector(Collector):
    """Processor time since the sample before, as percent of all cores together; load and switches."""

    name = "cpu"
    cost = "two files; 0.5 ms with 128 cores"
    Settings = CpuSettings
    metrics = (
        Metric("host.cpu.percent", "%", "/proc/stat", "time not idle, all cores together"),
        Metric("host.cpu.user.percent", "%", "/proc/stat", "time in programs, nice included"),
        Metric("host.cpu.system.percent", "%", "/proc/stat", "time in the kernel, interrupts included"),
        Metric("host.cpu.irq.percent", "%", "/proc/stat", "time in interrupts, of hard- and software"),
        Metric("host.cpu.iowait.percent", "%", "/proc/stat", "idle time while a disk was waited for"),
        Metric("host.cpu.steal.percent", "%", "/proc/stat", "time the hypervisor gave to other machines"),
        Metric("host.cpu.core_max.percent", "%", "/proc/stat", "the busiest core"),
        Metric(
            "host.cpu.cores_busy.count", "cores", "/proc/stat", "cores busy for more than 95 % of the time"
        ),
        Metric("host.cpu.cores.count", "cores", "/proc/stat", "logical processors that are online"),
        Metric("host.cpu.#.percent", "%", "/proc/stat", "one core, time not idle; with per_core only"),
        Metric("host.cpu.running.count", "threads", "/proc/stat procs_running", "threads that run or could"),
        Metric(
            "host.cpu.blocked.count",
            "threads",
            "/proc/stat procs_blocked",
            "threads that wait for a disk or a driver and cannot be killed",
        ),
        Metric("host.cpu.context_switches_per_s", "1/s", "/proc/stat ctxt", "switches between threads"),
        Metric("host.cpu.interrupts_per_s", "1/s", "/proc/stat intr", "interrupts, all cores together"),
        Metric("host.cpu.forks_per_s", "1/s", "/proc/stat processes", "processes and threads started"),
        Metric("host.cpu.load1", "", "/proc/loadavg", "threads that run or wait, mean of one minute"),
        Metric("host.cpu.load5", "", "/proc/loadavg", "the same, mean of five minutes"),
        Metric("host.cpu.load15", "", "/proc/loadavg", "the same, mean of fifteen minutes"),
        Metric("host.cpu.threads.count", "threads", "/proc/loadavg", "threads there are"),
    )

    def __init__(self, context: Context | None = None) -> None:
        super().__init__(context)
        settings = self.context.settings
        self._per_core = isinstance(settings, CpuSettings) and settings.per_core
        self._ticks_per_s = os.sysconf("SC_CLK_TCK")
        self._before: Times = {}
        self._at = 0.0
        self._growth = Growth()

    def sample(self) -> Reading:
        text = self.context.kernel.text("proc/stat")
        now = self.context.monotonic()
        values = _load(self.context.kernel.word("proc/loadavg"))
        if text is None:
            if values:
                return Reading(values, ("no /proc/stat",))
            raise NothingHere("no /proc/stat")
        times, rest = _parse(text)
        if not times:
            raise CollectorError("/proc/stat names no cores")
        before, self._before = self._before, times
        elapsed_s, self._at = now - self._at, now
        values["host.cpu.cores.count"] = float(len(times))
        for word, name in _COUNTS.items():
            if word in rest:
                values[name] = float(rest[word])
        counters = {name: rest[word] for word, name in _RATES.items() if word in rest}
        values |= self._growth.per_second(counters, now)
        values |= self._percents(self._spent_by_core(before, times, elapsed_s))
        return Reading(values)

    def _spent_by_core(self, before: Times, after: Times, elapsed_s: float) -> dict[str, list[int]]:
        """Return the ticks each core spent. One that went off- or online meanwhile is left out."""
        jump = round(_JUMP_S * self._ticks_per_s)
        # Ticks are counted with some error, which grows with the time.
        most = round(1.1 * elapsed_s * self._ticks_per_s) + jump
        cores = {}
        for core, times in after.items():
            if core in before:
                spent = _spent(before[core], times)
                if before[core][_IDLE] - times[_IDLE] <= jump and sum(spent) <= most:
                    cores[core] = spent
        return cores

    def _percents(self, spent: Mapping[str, Sequence[int]]) -> dict[str, float]:
        totals: list[int] = [sum(column) for column in zip(*spent.values(), strict=True)]
        total = sum(totals)
        if total <= 0:
            return {}

        def percent(*columns: int) -> float:
            return 100.0 * sum(totals[column] for column in columns) / total

        busy = {core: _busy_percent(each) for core, each in spent.items()}
        values = {
            "host.cpu.percent": percent(_USER, _NICE, _SYSTEM, _IRQ, _SOFTIRQ, _STEAL),
            "host.cpu.user.percent": percent(_USER, _NICE),
            "host.cpu.system.percent": percent(_SYSTEM, _IRQ, _SOFTIRQ),
            "host.cpu.irq.percent": percent(_IRQ, _SOFTIRQ),
            "host.cpu.iowait.percent": percent(_IOWAIT),
            "host.cpu.steal.percent": percent(_STEAL),
            "host.cpu.core_max.percent": max(busy.values()),
            "host.cpu.cores_busy.count": float(sum(each > _BUSY_CORE_PERCENT for each in busy.values())),
        }
        if self._per_core:
            values |= {f"host.cpu.{core}.percent": each for core, each in busy.items()}
        return values


def _load(line: str | None) -> dict[str, float]:
    """Return what /proc/loadavg says, such as "0.20 0.18 0.12 1/80 11206"."""
    words = (line or "").split()
    values = {name: float(word) for name, word in zip(_LOADS, words, strict=False) if _LOAD.fullmatch(word)}
    if len(words) > 3 and _THREADS.fullmatch(words[3]):
        values["host.cpu.threads.count"] = float(words[3].partition("/")[2])
    return values


def _parse(text: str) -> tuple[dict[str, list[int]], dict[str, int]]:
    """Return the times of each core by its number, and the first number of the other lines by their name."""
    times: dict[str, list[int]] = {}
    rest: dict[str, int] = {}
    for line in text.splitlines():
        if not line.startswith("cpu"):
            # "intr" and "softirq" go on for thousands of numbers, which nobody needs to split.
            words = line.split(" ", 2)
            if len(words) > 1 and words[1].isdecimal():
                rest[words[0]] = int(words[1])
        elif not line.startswith("cpu "):
            core, *numbers = line.split(None, _COLUMNS + 1)
            try:
                # Kernels before 2.6.33 have fewer columns; what stands behind steal is not ours.
                columns = list(map(int, numbers[:_COLUMNS]))
            except ValueError:
                continue
            if core[3:].isdecimal():
                times[core[3:]] = columns + [0] * (_COLUMNS - len(columns))
    return times, rest


def _spent(old: Sequence[int], new: Sequence[int]) -> list[int]:
    # idle, iowait and steal are known to go backwards (proc(5)); time spent is never negative.
    return [after - before if after > before else 0 for before, after in zip(old, new, strict=True)]


def _busy_percent(spent: Sequence[int]) -> float:
    total = sum(spent)
    return 100.0 * (total - spent[_IDLE] - spent[_IOWAIT]) / total if total > 0 else 0.0
