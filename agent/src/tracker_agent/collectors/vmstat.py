"""vmstat: page faults, swapping, want of memory and the kernel's kills for it, from /proc/vmstat."""

from __future__ import annotations

import os
from collections.abc import Mapping

from .collector import Collector, Context, Event, Metric, NothingHere, Reading
from .growth import Growth

#: Counters of events, by metric.
_RATES = {
    "host.vmstat.faults_per_s": "pgfault",
    "host.vmstat.major_faults_per_s": "pgmajfault",
    "host.vmstat.compactions_per_s": "compact_stall",
}
#: Counters of pages.
_PAGES = {
    "host.vmstat.swapped_in.bytes_per_s": "pswpin",
    "host.vmstat.swapped_out.bytes_per_s": "pswpout",
}
#: A job in a tight limit may be killed and started again each second: one event tells of many.
EVENT_INTERVAL_S = 60.0


class VmstatCollector(Collector):
    """Page faults, swapping, waits for free memory, and processes killed for want of memory."""

    name = "vmstat"
    cost = "one file; 0.1 ms"
    metrics = (
        Metric("host.vmstat.faults_per_s", "1/s", "/proc/vmstat pgfault", "page faults of all kinds"),
        Metric(
            "host.vmstat.major_faults_per_s",
            "1/s",
            "/proc/vmstat pgmajfault",
            "page faults that had to read from disk",
        ),
        Metric("host.vmstat.swapped_in.bytes_per_s", "bytes/s", "/proc/vmstat pswpin", "read from swap"),
        Metric("host.vmstat.swapped_out.bytes_per_s", "bytes/s", "/proc/vmstat pswpout", "written to swap"),
        Metric(
            "host.vmstat.direct_reclaims_per_s",
            "1/s",
            "/proc/vmstat allocstall",
            "allocations that had to free memory first",
        ),
        Metric(
            "host.vmstat.compactions_per_s",
            "1/s",
            "/proc/vmstat compact_stall",
            "allocations that had to move memory first",
        ),
        Metric(
            "host.vmstat.oom_kills.count",
            "processes",
            "/proc/vmstat oom_kill",
            "killed for want of memory since the machine started, limits of cgroups included; an event when"
            " it grows",
        ),
    )

    def __init__(self, context: Context | None = None) -> None:
        super().__init__(context)
        self._growth = Growth()
        self._page_bytes = os.sysconf("SC_PAGE_SIZE")
        self._kills: int | None = None
        self._untold = 0
        self._told_at = -EVENT_INTERVAL_S

    def sample(self) -> Reading:
        table = self.context.kernel.table("proc/vmstat")
        now = self.context.monotonic()
        if not table:
            raise NothingHere("no /proc/vmstat")
        values = self._growth.per_second(self._counters(table), now)
        kills = table.get("oom_kill")
        if kills is None:
            return Reading(values)
        values["host.vmstat.oom_kills.count"] = float(kills)
        return Reading(values, events=self._kill_events(kills, now))

    def _counters(self, table: Mapping[str, int]) -> dict[str, float]:
        counters: dict[str, float] = {name: table[line] for name, line in _RATES.items() if line in table}
        for name, line in _PAGES.items():
            if line in table:
                counters[name] = table[line] * self._page_bytes
        # One number until 4.10, one for each kind of memory since.
        stalls = [number for line, number in table.items() if line.startswith("allocstall")]
        if stalls:
            counters["host.vmstat.direct_reclaims_per_s"] = sum(stalls)
        return counters

    def _kill_events(self, kills: int, now: float) -> tuple[Event, ...]:
        """Return an event when processes were killed since the sample before, at most one a minute."""
        before, self._kills = self._kills, kills
        self._untold += max(0, kills - before) if before is not None else 0
        if not self._untold or now - self._told_at < EVENT_INTERVAL_S:
            return ()
        killed, self._untold, self._told_at = self._untold, 0, now
        what = "a process" if killed == 1 else f"{killed} processes"
        text = f"The kernel killed {what} for want of memory, of the machine or of a cgroup's limit."
        facts = {"oom_kills": killed, "oom_kills_since_boot": kills}
        return (Event(self.context.wall_ns(), "Out of memory", text, "error", facts),)
