"""A collector of processes asked by a clock that the test moves, and what it says of each writer."""

from __future__ import annotations

from pathlib import Path

from tracker_agent.collectors.collector import Context, LiveRun
from tracker_agent.collectors.gpu_processes import GpuProcesses
from tracker_agent.collectors.kernel import Kernel
from tracker_agent.collectors.process_stat import TICKS_PER_S
from tracker_agent.collectors.processes import PACE_LONGEST_S, ProcessesCollector

#: Longer than any rest between two passes, and than the time between two counts of open files.
STEP_S = 2 * PACE_LONGEST_S
RATES = {
    "process.cpu.percent",
    "process.page_faults.major.per_s",
    "process.read.bytes_per_s",
    "process.written.bytes_per_s",
}


def stream(number: int) -> bytes:
    return number.to_bytes(16, "big")


class Watched:
    """A collector over some processes, asked every STEP_S by a clock that the test moves."""

    def __init__(self, root: str | Path | Kernel, *writers: int, gpus: GpuProcesses | None = None) -> None:
        self.writers = list(writers)
        self.now = 0.0
        self.collector = ProcessesCollector(
            Context(
                kernel=root if isinstance(root, Kernel) else Kernel(str(root)),
                monotonic=lambda: self.now,
                live_runs=lambda: [LiveRun((0, stream(pid)), f"run{pid}", pid) for pid in self.writers],
                gpu_processes=gpus or GpuProcesses(),
            )
        )

    def sample(self) -> dict[int, dict[str, float]]:
        """Return the values of each writer."""
        self.now += STEP_S
        runs = self.collector.sample().runs
        return {pid: dict(runs[0, stream(pid)]) for pid in self.writers if (0, stream(pid)) in runs}

    def used(self) -> dict[int, float]:
        """Return the ticks that each writer's tree used since the sample before."""
        return {
            pid: values["process.cpu.percent"] / 100 * STEP_S * TICKS_PER_S
            for pid, values in self.sample().items()
            if "process.cpu.percent" in values
        }
