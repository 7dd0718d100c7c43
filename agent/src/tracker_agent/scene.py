"""Looks at what a writer's end leaves behind: its wait status, its memory cgroup, the kernel's log.

A baseline is taken while the writer lives, for counters only tell by how much they rose, and a pid is only
its own for as long. Runs in a thread of its own: nothing here may stall the event loop.
"""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Iterable
from dataclasses import dataclass, field

from .evidence import Findings, MemoryKills
from .exit_status import ExitStatus, pidfds_tell, read_by_pidfd, read_zombie, stat_fields
from .kernel_log import KernelLog
from .memory_group import Group, MemoryGroups

#: Writers of which a pidfd is held to learn how they end: at most so many, and this part of all descriptors.
PIDFDS_MAX = 1024
PIDFDS_PART = 8
#: Memory groups whose counters one refresh reads.
GROUPS_PER_REFRESH = 200
#: How long before a writer's end an error of a GPU is worth mentioning.
GPU_ERROR_S = 30.0
#: A process that started this much later than its stream is another one with the same pid.
START_TOLERANCE_S = 2.0
#: A line of the kernel may be read this long after what it is about.
LINE_LATE_S = 5.0


@dataclass(eq=False)
class Baseline:
    """What was seen of a writer while it lived."""

    pid: int
    ticks: int  #: when it started, as the kernel counts: tells it from another process with its pid
    started_s: float  #: the same on the monotonic clock
    taken_s: float
    group: Group | None
    limit: tuple[str, int] | None = None
    kills: dict[str, int] = field(default_factory=dict)
    pidfd: int = -1


class Scene:
    """The machine, as far as it tells about deaths. For one thread."""

    def __init__(self, kernel_log: bool = True, proc: str = "/proc", kmsg: str = "/dev/kmsg") -> None:
        self._proc = proc
        self._groups = MemoryGroups(proc)
        self._log = KernelLog(time.monotonic, kmsg) if kernel_log else None
        self._pidfds: set[int] = set()
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        tells = pidfds_tell(os.uname().release)
        self._pidfds_max = min(PIDFDS_MAX, max(0, soft) // PIDFDS_PART) if tells else 0
        self._tick_s = 1.0 / os.sysconf("SC_CLK_TCK")
        self._next = 0

    def kernel_log_problem(self) -> str:
        """Return why the kernel's log tells nothing, "" when it does."""
        return "switched off (crash.kernel_log)" if self._log is None else self._log.problem

    def arrive(self, pid: int, stream_began_ns: int) -> Baseline | None:
        """Take the baseline of a writer whose stream began then; None where its pid is another's by now."""
        pidfd = self._open_pidfd(pid)
        now = time.monotonic()
        ticks = self._start_ticks(pid)
        # The kernel counts suspended time as well.
        started = (ticks or 0) * self._tick_s - _suspended_s()
        if ticks is None or started > stream_began_ns / 1e9 + START_TOLERANCE_S:
            self._close_pidfd(pidfd)
            return None
        group = self._groups.of(pid)
        baseline = Baseline(pid, ticks, started, now, group, pidfd=pidfd)
        if group is not None:
            baseline.kills, baseline.limit = self._groups.kills(group), self._groups.limit(group)
        return baseline

    def refresh(self, baselines: Iterable[Baseline]) -> None:
        """Take counters and log lines anew, so that what they tell at an end is about its last seconds."""
        if self._log is not None:
            self._log.read()
        by_group: dict[str, list[Baseline]] = {}
        for baseline in baselines:
            if baseline.group is not None:
                by_group.setdefault(baseline.group.directory, []).append(baseline)
        directories = sorted(by_group)
        start = self._next % len(directories) if directories else 0
        for directory in (directories[start:] + directories[:start])[:GROUPS_PER_REFRESH]:
            same = by_group[directory]
            assert same[0].group is not None
            kills = self._groups.kills(same[0].group)
            for baseline in same if directory in kills else ():
                baseline.kills, baseline.taken_s = kills, time.monotonic()
        self._next = start + GROUPS_PER_REFRESH

    def status(self, baseline: Baseline) -> ExitStatus | None:
        """Return how a writer that died ended, None while that is not known."""
        found = read_by_pidfd(baseline.pidfd) if baseline.pidfd >= 0 else None
        if found is None and self._start_ticks(baseline.pid) == baseline.ticks:
            found = read_zombie(self._stat(baseline.pid) or "")
        return found

    def depart(self, baseline: Baseline, status: ExitStatus | None) -> Findings:
        """Return what is found at the end of a writer."""
        missing = []
        if self._log is not None:
            self._log.read()
        now = time.monotonic()
        kernel, gpu = [], []
        problem = self.kernel_log_problem()
        if problem:
            missing.append(f"the kernel's log: {problem}")
        elif self._log is not None:
            kernel = self._log.about(baseline.pid, baseline.started_s - 1.0, now + LINE_LATE_S)
            gpu = self._log.gpu_errors(now - GPU_ERROR_S, now + LINE_LATE_S)
        fields = stat_fields(self._stat(baseline.pid) or "")
        runs_on = fields[:1] not in ([], ["Z"], ["X"]) and int(fields[19]) == baseline.ticks
        if status is None and not runs_on:
            missing.append("its wait status: only its parent knows")
        memory = None
        if baseline.group is None:
            missing.append("its memory cgroup: out of sight")
        elif not baseline.kills:
            missing.append("its memory cgroup: does not count what the kernel kills")
        else:
            memory = self._memory(baseline, baseline.group, now)
        return Findings(status, memory, tuple(kernel), tuple(gpu), tuple(missing), runs_on)

    def forget(self, baseline: Baseline) -> None:
        """Let go of what is held for a writer."""
        self._close_pidfd(baseline.pidfd)
        baseline.pidfd = -1

    def close(self) -> None:
        """Let go of everything."""
        if self._log is not None:
            self._log.close()
        for pidfd in list(self._pidfds):
            self._close_pidfd(pidfd)

    def _memory(self, baseline: Baseline, group: Group, now: float) -> MemoryKills:
        kills = self._groups.kills(group)
        rose = {
            directory: count - baseline.kills[directory]
            for directory, count in kills.items()
            if directory in baseline.kills
        }
        own = rose.pop(group.directory, None)
        above = max(rose.values(), default=0)
        return MemoryKills(group.path, own, above, now - baseline.taken_s, baseline.limit)

    def _open_pidfd(self, pid: int) -> int:
        if len(self._pidfds) >= self._pidfds_max:
            return -1
        try:
            pidfd = os.pidfd_open(pid)
        except OSError:
            return -1
        self._pidfds.add(pidfd)
        return pidfd

    def _close_pidfd(self, pidfd: int) -> None:
        if pidfd in self._pidfds:
            self._pidfds.discard(pidfd)
            os.close(pidfd)

    def _stat(self, pid: int) -> str | None:
        try:
            with open(f"{self._proc}/{pid}/stat", encoding="utf-8", errors="replace") as file:
                return file.read()
        except OSError:
            return None

    def _start_ticks(self, pid: int) -> int | None:
        fields = stat_fields(self._stat(pid) or "")
        return int(fields[19]) if len(fields) >= 20 else None


def _suspended_s() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME) - time.clock_gettime(time.CLOCK_MONOTONIC)
