"""cgroup: use, limits, throttling and pressure of the control groups that runs are in, and their OOM kills.

A group is a Slurm job, a pod's container, a container, a systemd unit. Its figures show with every run in
it; an end for want of memory is an event of the host. Groups vanish while they are read: a value less, no
failure.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import NamedTuple

from ..streams import StreamKey
from .cgroup_figures import Figures, read_figures, read_limits
from .cgroup_names import GroupName
from .cgroup_places import Membership, Place, Places
from .collector import Collector, Context, Event, Metric, Reading
from .growth import Growth
from .pace import Pace

#: Part of a core that reading groups may take, and how rare it becomes for it at most.
PACE_SHARE = 0.002
PACE_LONGEST_S = 30.0
LIMITS_INTERVAL_S = 30.0
MOUNTS_INTERVAL_S = 300.0
GROUPS_MAX = 256
RUNS_NAMED_MAX = 16


class CgroupCollector(Collector):
    """Memory, processor time, I/O, limits and pressure of the jobs, pods, containers and units of runs."""

    name = "cgroup"
    cost = "0.5 ms a group and 40 µs a writer; with many, samples become as rare as one in 30 s"
    metrics = (
        Metric(
            "cgroup.memory.current.bytes", "bytes", "memory.current", "memory in use, the page cache included"
        ),
        Metric("cgroup.memory.working_set.bytes", "bytes", "memory.stat", "in use, less what can go at once"),
        Metric(
            "cgroup.memory.peak.bytes", "bytes", "memory.peak", "the most so far; version 2 since kernel 5.19"
        ),
        Metric("cgroup.memory.max.bytes", "bytes", "memory.max", "the group's own limit"),
        Metric(
            "cgroup.memory.limit.bytes",
            "bytes",
            "memory.max",
            "the tightest limit, of it or a group above it",
        ),
        Metric("cgroup.memory.percent", "%", "memory.stat, memory.max", "working set of the tightest limit"),
        Metric(
            "cgroup.memory.limit_hits.per_s",
            "1/s",
            "memory.events, failcnt",
            "allocations that met the limit",
        ),
        Metric(
            "cgroup.memory.throttled.per_s",
            "1/s",
            "memory.events high",
            "slowed down at memory.high; version 2",
        ),
        Metric(
            "cgroup.memory.oom_kills.count",
            "",
            "memory.events, oom_control",
            "processes killed for memory so far",
        ),
        Metric("cgroup.swap.current.bytes", "bytes", "memory.swap.current", "swap in use"),
        Metric("cgroup.cpu.percent", "%", "cpu.stat, cpuacct.usage", "processor time; 800 are eight cores"),
        Metric("cgroup.cpu.limit.percent", "%", "cpu.max", "the tightest quota, of it or a group above it"),
        Metric("cgroup.cpu.cores.count", "cores", "cpuset.cpus.effective", "cores it may run on"),
        Metric(
            "cgroup.cpu.throttled.percent", "%", "cpu.stat", "time held back by the quota, summed over cores"
        ),
        Metric("cgroup.cpu.throttled_periods.percent", "%", "cpu.stat", "periods in which the quota ran out"),
        Metric("cgroup.pids.count", "threads", "pids.current", "processes and threads"),
        Metric(
            "cgroup.pids.limit.count", "threads", "pids.max", "the tightest limit, of it or a group above it"
        ),
        Metric("cgroup.io.read.bytes_per_s", "bytes/s", "io.stat, blkio", "read from block devices"),
        Metric("cgroup.io.written.bytes_per_s", "bytes/s", "io.stat, blkio", "written to block devices"),
        Metric("cgroup.pressure.cpu.some.percent", "%", "cpu.pressure", "some task waited for a processor"),
        Metric("cgroup.pressure.io.some.percent", "%", "io.pressure", "some task waited for a disk"),
        Metric("cgroup.pressure.io.full.percent", "%", "io.pressure", "every task waited for a disk"),
        Metric("cgroup.pressure.memory.some.percent", "%", "memory.pressure", "some task waited for memory"),
        Metric("cgroup.pressure.memory.full.percent", "%", "memory.pressure", "every task waited for memory"),
    )

    def __init__(self, context: Context | None = None) -> None:
        super().__init__(context)
        self._places = Places(self.context.kernel)
        self._pace = Pace(PACE_SHARE, PACE_LONGEST_S)
        self._groups: dict[GroupName, _Group] = {}
        self._crowds: dict[CrowdPlace, _Crowd] = {}
        self._mounts_due = float("-inf")

    def sample(self) -> Reading:
        live = self.context.live_runs()
        if not live:
            self._groups, self._crowds = {}, {}
            return Reading({})
        now = self.context.monotonic()
        if not self._pace.due(now):
            return Reading({})
        try:
            return self._read(now)
        finally:
            self._pace.done(now)

    def _read(self, now: float) -> Reading:
        members, left_out = self._members(now)
        before, self._groups = (
            self._groups,
            {name: self._groups.get(name) or _Group(self.context) for name in members},
        )
        vanished = [group for name, group in before.items() if name not in members]
        # Before the groups, which the kernel counts kills in before those above them.
        self._crowds = {
            place: self._crowds.get(place) or _Crowd(place, self.context)
            for place in {crowd_of(inside.member) for inside in members.values()}
            | {group.crowd for group in vanished}
            if place is not None
        }
        for crowd in self._crowds.values():
            crowd.read(now)
        runs: dict[StreamKey, dict[str, float]] = {}
        events = []
        for name, inside in members.items():
            group = self._groups[name]
            values = group.read(inside, now)
            if values:
                runs.update(dict.fromkeys(inside.streams, values))
            if group.killed:
                events.append(group.event(group.killed, self.context.wall_ns()))
        for crowd in self._crowds.values():
            events += crowd.events(self._groups.values(), vanished)
        problems = (
            (f"{left_out} control groups beyond the first {GROUPS_MAX} are left out",) if left_out else ()
        )
        return Reading({}, problems, events=tuple(events), runs=runs)

    def _members(self, now: float) -> tuple[dict[GroupName, _Inside], int]:
        """Return which streams are in which group, and how many groups were too many."""
        if now >= self._mounts_due:
            self._mounts_due = now + MOUNTS_INTERVAL_S
            self._places.refresh()
        found: dict[GroupName, _Inside] = {}
        too_many = set()
        by_pid: dict[int, Membership | None] = {}
        for run in sorted(self.context.live_runs(), key=lambda each: each.key):
            if run.pid not in by_pid:
                by_pid[run.pid] = self._places.of(run.pid) if run.pid > 0 else None
            member = by_pid[run.pid]
            if member is None:
                continue
            if member.name not in found:
                if len(found) >= GROUPS_MAX:
                    too_many.add(member.name)
                    continue
                found[member.name] = _Inside(member, [], [], [])
            inside = found[member.name]
            inside.streams.append(run.key)
            inside.runs.append(run.run)
            memory = member.place("memory")
            if memory is not None:
                inside.leaves.append(memory)
        return found, len(too_many)


class _Inside(NamedTuple):
    """The runs in a group."""

    member: Membership
    streams: list[StreamKey]
    runs: list[str]
    leaves: list[Place]  #: of their processes, in the hierarchy of memory


class _Group:
    """One control group from sample to sample."""

    def __init__(self, context: Context) -> None:
        self._kernel = context.kernel
        self._growth = Growth()
        self._kills = Growth()
        self._limits: dict[str, float] = {}
        self._limits_due = float("-inf")
        self._inside: _Inside | None = None
        #: Processes killed for memory since the sample before.
        self.killed = 0
        #: The directory above, where it has neighbours of its kind.
        self.crowd: CrowdPlace | None = None

    def read(self, inside: _Inside, now: float) -> dict[str, float]:
        """Return the values of this moment; empty where the group is gone, or nothing is told of it."""
        self._inside = inside
        if now >= self._limits_due:
            self._limits = read_limits(self._kernel, inside.member)
            self._limits_due = now + LIMITS_INTERVAL_S
        figures = read_figures(self._kernel, inside.member, inside.leaves)
        self.killed = int(
            sum(self._kills.since({k: float(v) for k, v in figures.kills.items()}, now).values())
        )
        self.crowd = crowd_of(inside.member)
        values = figures.values | self._rates(figures, now)
        if not values:
            return {}
        values |= self._limits
        limit, working_set = (values.get(f"cgroup.memory.{name}.bytes") for name in ("limit", "working_set"))
        if limit and working_set is not None:
            values["cgroup.memory.percent"] = 100.0 * working_set / limit
        return values

    def event(self, killed: int, time: int) -> Event:
        """Return the event that so many processes of this group were killed for memory."""
        assert self._inside is not None
        name = self._inside.member.name
        limit = self._limits.get("cgroup.memory.limit.bytes")
        text = f"The kernel killed {_processes(killed)} of {_lower(name.title)} for memory"
        if limit is not None:
            text += f"; the limit is {limit / 2**30:.2f} GiB"
        facts: dict[str, object] = {
            "kind": name.kind,
            "id": name.id,
            "cgroup": name.path,
            "oom_kills": killed,
            "runs": sorted(set(self._inside.runs))[:RUNS_NAMED_MAX],
        }
        if limit is not None:
            facts["limit_bytes"] = int(limit)
        return Event(time, f"Out of memory: {name.title}", text, "error", facts)

    def _rates(self, figures: Figures, now: float) -> dict[str, float]:
        periods = dict(zip(("periods", "throttled"), figures.periods or (), strict=False))
        grown = self._growth.since({**figures.counters, **periods}, now)
        elapsed, throttled = grown.pop("periods", 0), grown.pop("throttled", 0)
        values = {}
        for name, growth in grown.items():
            value = growth / self._growth.seconds
            # The kernel's clock and ours are read at slightly different moments.
            values[name] = min(100.0, value) if name.startswith("cgroup.pressure.") else value
        if elapsed > 0:
            values["cgroup.cpu.throttled_periods.percent"] = min(100.0, 100.0 * throttled / elapsed)
        return values


class CrowdPlace(NamedTuple):
    """Where a group that holds several of one kind is, and its path as the kernel names it."""

    directory: str
    path: str


class _Crowd:
    """The group above several of one kind, which counts the kills of all below it, removed ones too."""

    def __init__(self, place: CrowdPlace, context: Context) -> None:
        self._place = place
        self._context = context
        self._growth = Growth()
        self._killed = 0

    def read(self, now: float) -> None:
        """Count the kills since the sample before."""
        count = self._context.kernel.table(f"{self._place.directory}/memory.events").get("oom_kill")
        counters = {} if count is None else {"oom_kill": float(count)}
        self._killed += int(self._growth.since(counters, now).get("oom_kill", 0))

    def events(self, groups: Iterable[_Group], vanished: Iterable[_Group]) -> list[Event]:
        """Return what ended for want of memory with a group that is gone already, or beside those known."""
        self._killed -= sum(group.killed for group in groups if group.crowd == self._place)
        # Less than nothing: a group was read after a kill that is not counted here yet, but will be.
        killed, self._killed = max(0, self._killed), min(0, self._killed)
        if not killed:
            return []
        gone = [group for group in vanished if group.crowd == self._place]
        if len(gone) == 1:
            return [gone[0].event(killed, self._context.wall_ns())]
        path = self._place.path
        text = f"The kernel killed {_processes(killed)} for memory in a control group below {path}"
        facts = {"cgroup": path, "oom_kills": killed}
        return [Event(self._context.wall_ns(), "Out of memory beside a run", text, "warn", facts)]


def crowd_of(member: Membership) -> CrowdPlace | None:
    """Return the directory that holds a group's neighbours, where it counts their kills (version 2)."""
    memory = member.place("memory")
    if memory is None or memory.version == 1 or not member.name.levels_to_crowd:
        return None
    directory, path = memory.directory, member.name.path
    for _ in range(member.name.levels_to_crowd):
        directory, path = os.path.dirname(directory), os.path.dirname(path)
    return CrowdPlace(directory, path) if len(directory) > len(memory.top) else None


def _processes(count: int) -> str:
    return f"{count} process" if count == 1 else f"{count} processes"


def _lower(title: str) -> str:
    # "Slurm" and names of units stay as they are.
    first, _, rest = title.partition(" ")
    return title if first == "Slurm" else f"{first.lower()} {rest}"
