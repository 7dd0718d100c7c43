"""processes: what each live writer of a run uses, with all processes below it, and on which GPUs.

The figures are about runs, not about the machine, and show on the run's page. Nothing of a process is read
but figures: no command line, no environment.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Iterable, Mapping

from ..streams import StreamKey
from .collector import Collector, Context, LiveRun, Metric, Reading
from .gpu_processes import GpuProcess
from .kernel import Kernel
from .pace import Pace
from .process_growth import Debt, Grown, debt_of, ended_below, grown, total
from .process_stat import TICKS_PER_S, Process, read_io, read_process
from .process_tree import ParentTable, owners

#: Part of a core that passes over the processes may take, and how rare they become for it at most.
PACE_SHARE = 0.002
PACE_LONGEST_S = 30.0
#: Open files are counted one by one where the kernel (before 6.2) does not tell their number: seldom, and
#: at most so many in a pass. A tree with more is left out.
OPEN_FILES_INTERVAL_S = 20.0
OPEN_FILES_MAX = 20_000


class ProcessesCollector(Collector):
    """Processor time, memory, threads, I/O, open files and GPUs of the process trees of runs."""

    name = "processes"
    cost = (
        "50 µs a process of a run and 1 µs any other process each pass; "
        "with many, passes become as rare as one in 30 s"
    )
    metrics = (
        Metric("process.cpu.percent", "%", "/proc/<pid>/stat", "processor time; 800 are eight cores"),
        Metric("process.rss.bytes", "bytes", "/proc/<pid>/stat", "resident memory, shared pages each time"),
        Metric("process.threads.count", "threads", "/proc/<pid>/stat", "threads of all processes"),
        Metric("process.count", "processes", "/proc/<pid>/stat", "processes, the writer included"),
        Metric("process.page_faults.major.per_s", "1/s", "/proc/<pid>/stat", "pages that had to be read in"),
        Metric("process.read.bytes_per_s", "bytes/s", "/proc/<pid>/io", "read from storage, not the cache"),
        Metric("process.written.bytes_per_s", "bytes/s", "/proc/<pid>/io", "written towards storage"),
        Metric("process.open_files.count", "files", "/proc/<pid>/fd", "open descriptors of all processes"),
        Metric("process.gpu.#.memory.bytes", "bytes", "NVML", "memory in use on that GPU"),
        Metric("process.gpu.#.utilization.percent", "%", "NVML", "time with a kernel running; not on MIG"),
        Metric("process.gpu.#.mig.#.memory.bytes", "bytes", "NVML", "memory in use on that part of a GPU"),
    )

    def __init__(self, context: Context | None = None) -> None:
        super().__init__(context)
        self._kernel = self.context.kernel
        self._table = ParentTable(self._kernel)
        self._files = OpenFiles(self._kernel)
        self._pace = Pace(PACE_SHARE, PACE_LONGEST_S)
        self._before: dict[int, Process] = {}
        self._owners: dict[int, int] = {}
        self._at: float | None = None
        self._uptime_ticks: int | None = None
        self._closed_to_us: set[tuple[int, int]] = set()
        self._debts: dict[tuple[int, int], Debt] = {}

    def sample(self) -> Reading:
        streams = by_writer(self.context.live_runs())
        if not streams:
            self._forget()
            return Reading({})
        now = self.context.monotonic()
        if not self._pace.due(now):
            return Reading({})
        try:
            return Reading({}, runs=self._pass(streams, now))
        finally:
            self._pace.done(now)

    def _pass(
        self, streams: Mapping[int, Collection[StreamKey]], now: float
    ) -> dict[StreamKey, dict[str, float]]:
        uptime = self._read_uptime()
        former = self._owners
        belongs = owners(self._table.read(), streams, former.items(), self._is_same)
        processes = self._read(belongs)
        used = self._used(former, belongs, processes)
        files = self._files.count(belongs, processes, now)
        gpus = gpu_values(self.context.gpu_processes.rows(), belongs)
        seconds = 0.0 if self._at is None else now - self._at
        found: dict[StreamKey, dict[str, float]] = {}
        for writer, tree in _trees(belongs, processes).items():
            if writer not in processes:
                continue  # it ended while we looked
            values = _sizes(tree) | gpus.get(writer, {})
            if writer in used and seconds > 0:
                values |= _rates(used[writer], seconds)
            if writer in files:
                values["process.open_files.count"] = float(files[writer])
            found.update(dict.fromkeys(streams[writer], values))
        self._before, self._at, self._uptime_ticks = processes, now, uptime
        self._owners = {pid: belongs[pid] for pid in processes}
        return found

    def _read(self, belongs: Iterable[int]) -> dict[int, Process]:
        """Read the processes in the order given, parents first."""
        found = {}
        closed = set()
        for pid in belongs:
            process = read_process(self._kernel, pid)
            if process is None:
                continue
            identity = (pid, process.start)
            before = self._before.get(pid)
            if identity in self._closed_to_us:
                closed.add(identity)
            else:
                io = read_io(self._kernel, pid)
                if io is None and process.zombie and before is not None and before.start == process.start:
                    io = before.io
                if io is None:
                    if not self._is_there(process):
                        continue
                    closed.add(identity)
                process = process._replace(io=io)
            found[pid] = process
        self._closed_to_us = closed
        return found

    def _used(
        self, former: Mapping[int, int], belongs: Mapping[int, int], processes: Mapping[int, Process]
    ) -> dict[int, Grown]:
        """Return what each tree used since the pass before; writers that were not known then are left out."""
        ended = ended_below(self._before, processes)
        parts: dict[int, list[Grown]] = {}
        debts: dict[tuple[int, int], Debt] = {}
        for pid, process in processes.items():
            writer = belongs[pid]
            if not self._knew(writer, processes):
                continue
            fresh = Debt()
            for gone in ended.get(pid, ()):
                fresh = fresh.plus(debt_of(gone, foreign=former.get(gone.pid) != writer))
                # What it had not paid when it ended is its parent's to pay, who gets all that it had.
                fresh = fresh.plus(self._debts.get((gone.pid, gone.start), Debt()))
            part, debt = grown(
                process,
                self._before.get(pid),
                born=self._uptime_ticks is not None and process.start >= self._uptime_ticks,
                fresh=fresh,
                carried=self._debts.get((pid, process.start), Debt()),
            )
            parts.setdefault(writer, []).append(part)
            if debt:
                debts[pid, process.start] = debt
        self._debts = debts
        return {writer: total(grown_parts) for writer, grown_parts in parts.items()}

    def _knew(self, writer: int, processes: Mapping[int, Process]) -> bool:
        before, now = self._before.get(writer), processes.get(writer)
        return before is not None and now is not None and before.start == now.start

    def _is_same(self, pid: int) -> bool:
        before = self._before.get(pid)
        return before is not None and self._is_there(before)

    def _is_there(self, process: Process) -> bool:
        found = read_process(self._kernel, process.pid)
        return found is not None and found.start == process.start

    def _read_uptime(self) -> int | None:
        """Return the ticks since boot, as births are counted in."""
        word = (self._kernel.text("proc/uptime") or "").split(" ", 1)[0]
        try:
            # In hundredths, cut down as births are: who is born from now on has at least as many.
            return round(float(word) * TICKS_PER_S)
        except (ValueError, OverflowError):
            return None

    def _forget(self) -> None:
        self._before, self._owners, self._at, self._uptime_ticks = {}, {}, None, None
        self._closed_to_us = set()
        self._debts = {}
        self._table.clear()


class OpenFiles:
    """Counts the open files of trees."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._told: bool | None = None
        self._due = float("-inf")

    def count(
        self, belongs: Mapping[int, int], processes: Mapping[int, Process], now: float
    ) -> dict[int, int]:
        """Return how many files each tree has open, by writer; empty while it is not yet time again.

        A tree with a process that is not for us to look at is left out.
        """
        if self._told is None:
            self._told = self._kernel_tells()
        if not self._told and now < self._due:
            return {}
        self._due = now + OPEN_FILES_INTERVAL_S
        counts: Counter[int] = Counter()
        unknown = set()
        left = OPEN_FILES_MAX
        for pid, process in processes.items():
            if process.zombie or belongs[pid] in unknown:
                continue
            count = self._size(pid) if self._told else self._list(pid, left)
            if count is None:
                unknown.add(belongs[pid])
                continue
            left -= 0 if self._told else count
            counts[belongs[pid]] += count
        return {writer: count for writer, count in counts.items() if writer not in unknown}

    def _kernel_tells(self) -> bool:
        """Return whether the size of the directory is the number of open files (Linux 6.2)."""
        listed = self._list(os.getpid(), OPEN_FILES_MAX)
        # Other threads of this process may open and close files between the two.
        return bool(listed) and abs((self._size(os.getpid()) or 0) - (listed or 0)) <= 4

    def _size(self, pid: int) -> int | None:
        try:
            return os.stat(self._kernel.path(f"proc/{pid}/fd")).st_size
        except OSError:
            return None

    def _list(self, pid: int, most: int) -> int | None:
        count = 0
        try:
            with os.scandir(self._kernel.path(f"proc/{pid}/fd")) as entries:
                for _ in entries:
                    count += 1
                    if count > most:
                        return None
        except OSError:
            return None
        return count


def by_writer(live: Iterable[LiveRun]) -> dict[int, list[StreamKey]]:
    """Return the streams that show a process's figures, by its pid: one of each run that it writes."""
    first: dict[tuple[int, str], StreamKey] = {}
    for run in sorted(live, key=lambda each: each.key):
        if run.pid > 0:
            first.setdefault((run.pid, run.run), run.key)
    found: dict[int, list[StreamKey]] = {}
    for (pid, _), key in first.items():
        found.setdefault(pid, []).append(key)
    return found


def gpu_values(rows: Iterable[GpuProcess], belongs: Mapping[int, int]) -> dict[int, dict[str, float]]:
    """Return what trees use of GPUs, by writer and name of the metric."""
    found: dict[int, dict[str, float]] = {}
    for row in rows:
        writer = belongs.get(row.pid)
        if writer is None:
            continue
        values = found.setdefault(writer, {})
        for place in (f"{row.index}",) if row.mig is None else (f"{row.index}", f"{row.index}.mig.{row.mig}"):
            if row.memory_bytes is not None:
                name = f"process.gpu.{place}.memory.bytes"
                values[name] = values.get(name, 0.0) + row.memory_bytes
        if row.sm_percent is not None:
            name = f"process.gpu.{row.index}.utilization.percent"
            values[name] = values.get(name, 0.0) + row.sm_percent
    return found


def _trees(belongs: Mapping[int, int], processes: Mapping[int, Process]) -> dict[int, list[Process]]:
    found: dict[int, list[Process]] = {}
    for pid, process in processes.items():
        found.setdefault(belongs[pid], []).append(process)
    return found


def _sizes(tree: Iterable[Process]) -> dict[str, float]:
    alive = [process for process in tree if not process.zombie]
    return {
        "process.rss.bytes": float(sum(process.rss_bytes for process in alive)),
        "process.threads.count": float(sum(process.threads for process in alive)),
        "process.count": float(len(alive)),
    }


def _rates(used: Grown, seconds: float) -> dict[str, float]:
    values = {
        "process.cpu.percent": 100.0 * used.cpu / TICKS_PER_S / seconds,
        "process.page_faults.major.per_s": used.faults / seconds,
    }
    if used.read is not None and used.written is not None:
        values["process.read.bytes_per_s"] = used.read / seconds
        values["process.written.bytes_per_s"] = used.written / seconds
    return values
