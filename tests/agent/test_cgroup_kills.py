"""cgroup: kills for memory as events that name the job; on machines made of files, and on this one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.support.memory_cgroup import memory_cgroup
from tests.support.watched_cgroups import (
    GIB,
    JOB1,
    JOB2,
    MIB,
    POD,
    POD2,
    STEP_S,
    Watched,
)
from tracker_agent.collectors.cgroup import CgroupCollector
from tracker_agent.collectors.collector import Context, LiveRun, Reading


def events(reading: Reading) -> list[tuple[str, int]]:
    return [(event.title, event.facts["oom_kills"]) for event in reading.events]


def test_a_kill_for_memory_names_the_job_its_limit_and_its_runs(tmp_path: Path) -> None:
    watched = Watched("cgroup-v2", tmp_path, 4101, 4102)
    assert watched.read().events == ()

    watched.host.replace(f"{JOB2}/memory.events", "oom_kill 0", "oom_kill 2")
    watched.host.replace(
        "sys/fs/cgroup/system.slice/slurmstepd.scope/memory.events", "oom_kill 5", "oom_kill 7"
    )
    (event,) = watched.read().events

    assert event.title == "Out of memory: Slurm job 123"
    assert event.text == "The kernel killed 2 processes of Slurm job 123 for memory; the limit is 6.00 GiB"
    assert event.level == "error"
    assert event.time == int(watched.host.now * 1e9)
    assert event.facts == {
        "kind": "slurm job",
        "id": "123",
        "cgroup": "/system.slice/slurmstepd.scope/job_123",
        "oom_kills": 2,
        "limit_bytes": 6 * GIB,
        "runs": ["run4101", "run4102"],
    }
    assert watched.read().events == ()


def test_a_job_that_was_removed_with_its_kill_is_named_all_the_same(tmp_path: Path) -> None:
    watched = Watched("cgroup-v2", tmp_path, 4101, 4301)
    watched.read()

    watched.host.remove(JOB2)
    watched.host.remove("proc/4101")
    watched.host.replace(
        "sys/fs/cgroup/system.slice/slurmstepd.scope/memory.events", "oom_kill 5", "oom_kill 6"
    )

    assert events(watched.read()) == [("Out of memory: Slurm job 123", 1)]


def test_a_kill_in_a_neighbours_job_is_told_as_such(tmp_path: Path) -> None:
    watched = Watched("cgroup-v2", tmp_path, 4101, 4201)
    watched.read()

    watched.host.replace(
        "sys/fs/cgroup/system.slice/slurmstepd.scope/memory.events", "oom_kill 5", "oom_kill 6"
    )
    (event,) = watched.read().events

    assert (event.title, event.level) == ("Out of memory beside a run", "warn")
    assert event.facts == {"cgroup": "/system.slice/slurmstepd.scope", "oom_kills": 1}


def test_a_kill_that_one_file_shows_before_the_other_is_told_once(tmp_path: Path) -> None:
    watched = Watched("cgroup-v2", tmp_path, 4201)
    watched.read()
    watched.host.replace(f"{POD2}/memory.events", "oom_kill 1", "oom_kill 2")

    assert events(watched.read()) == [(f"Out of memory: Pod {POD}", 1)]
    crowd = "sys/fs/cgroup/kubepods.slice/kubepods-burstable.slice/memory.events"
    watched.host.replace(crowd, "oom_kill 9", "oom_kill 10")
    assert events(watched.read()) == []
    watched.host.replace(crowd, "oom_kill 10", "oom_kill 11")
    assert events(watched.read()) == [("Out of memory beside a run", 1)]


def test_version_1_counts_kills_where_they_were(tmp_path: Path) -> None:
    watched = Watched("cgroup-v1", tmp_path, 4101, 4102)
    first = watched.values()

    watched.host.replace(f"{JOB1}/step_0/task_1/memory.oom_control", "oom_kill 1", "oom_kill 2")
    reading = watched.read()

    assert first[4101]["memory.oom_kills.count"] == 1
    assert events(reading) == [("Out of memory: Slurm job 123", 1)]
    watched.host.remove(f"{JOB1}/step_0/task_1")
    assert events(watched.read()) == []


def test_a_process_killed_for_memory_on_this_machine_is_told() -> None:
    with memory_cgroup(32 * MIB) as directory:
        hungry = subprocess.Popen(
            [sys.executable, "-c", "import sys; sys.stdin.readline(); held = bytearray(200 << 20)"],
            stdin=subprocess.PIPE,
        )
        waiting = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
        for process in (hungry, waiting):
            (directory / "cgroup.procs").write_text(str(process.pid))
        now = [0.0]
        collector = CgroupCollector(
            Context(
                monotonic=lambda: now[0],
                live_runs=lambda: [LiveRun((0, b"x" * 16), "run", waiting.pid)],
            )
        )
        values = collector.sample().runs[0, b"x" * 16]

        assert hungry.stdin is not None
        hungry.communicate(b"\n")
        now[0] += STEP_S
        reading = collector.sample()

        assert values["cgroup.memory.limit.bytes"] == 32 * MIB
        assert values["cgroup.memory.current.bytes"] <= 32 * MIB
        assert reading.runs[0, b"x" * 16]["cgroup.memory.peak.bytes"] >= 16 * MIB
        assert [event.facts["oom_kills"] for event in reading.events] == [1]
        assert reading.events[0].facts["runs"] == ["run"]
        assert directory.name in reading.events[0].facts["cgroup"]
        assert reading.runs[0, b"x" * 16]["cgroup.memory.oom_kills.count"] == 1
        waiting.communicate(b"\n")
