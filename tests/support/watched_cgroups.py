"""The collector of control groups on a machine made of files, with live writers."""

from __future__ import annotations

from pathlib import Path

from tests.support.fixture_host import FixtureHost
from tracker_agent.collectors.cgroup import PACE_LONGEST_S, CgroupCollector
from tracker_agent.collectors.collector import LiveRun, Reading

GIB, MIB = 1 << 30, 1 << 20
POD = "0a1b2c3d-1111-2222-3333-444455556666"
CONTAINER = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
POD_SLICE = f"kubepods-burstable-pod{POD.replace('-', '_')}.slice"
#: Longer than any rest between two samples.
STEP_S = PACE_LONGEST_S
JOB2 = "sys/fs/cgroup/system.slice/slurmstepd.scope/job_123"
JOB1 = "sys/fs/cgroup/memory/slurm/uid_1000/job_123"
POD2 = f"sys/fs/cgroup/kubepods.slice/kubepods-burstable.slice/{POD_SLICE}/cri-containerd-{CONTAINER}.scope"


class Watched:
    """The collector on a machine made of files, with live writers."""

    def __init__(self, machine: str, tmp_path: Path, *pids: int) -> None:
        self.host = FixtureHost(machine, tmp_path / "host")
        self.pids = list(pids)
        self.collector = CgroupCollector(
            self.host.context(
                live_runs=lambda: [
                    LiveRun((0, bytes([pid % 251] * 16)), f"run{pid}", pid) for pid in self.pids
                ]
            )
        )

    def read(self) -> Reading:
        self.host.advance(STEP_S)
        return self.collector.sample()

    def values(self) -> dict[int, dict[str, float]]:
        """Return the values by pid, without the word all names begin with."""
        runs = self.read().runs
        return {
            pid: {name.removeprefix("cgroup."): value for name, value in runs[key].items()}
            for pid in self.pids
            if (key := (0, bytes([pid % 251] * 16))) in runs
        }
