"""processes: what the process trees of runs use, on processes made of files."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.fake_processes import INIT, FakeProcesses
from tests.support.watched_processes import RATES, STEP_S, Watched, stream
from tracker_agent.collectors.collector import Context, LiveRun
from tracker_agent.collectors.gpu_processes import GpuProcess, GpuProcesses
from tracker_agent.collectors.kernel import Kernel
from tracker_agent.collectors.process_stat import PAGE_BYTES, TICKS_PER_S
from tracker_agent.collectors.process_tree import ParentTable
from tracker_agent.collectors.processes import (
    OPEN_FILES_INTERVAL_S,
    PACE_LONGEST_S,
    ProcessesCollector,
    by_writer,
)


@pytest.fixture
def machine(tmp_path: Path) -> FakeProcesses:
    return FakeProcesses(tmp_path / "machine")


def test_figures_are_those_of_the_whole_tree_and_of_nobody_else(machine: FakeProcesses) -> None:
    machine.born(50, INIT, threads=99, rss_pages=99, cpu=99)
    machine.born(10, 50, threads=3, rss_pages=5, files=4)
    machine.born(11, 10, threads=2, rss_pages=7, files=1)
    machine.born(12, 11, name="a) R 1 (b", rss_pages=11, files=0)
    watched = Watched(machine.root, 10)

    machine.write()
    first = watched.sample()[10]
    for pid, growth in ((50, 999), (10, 30), (11, 200), (12, 4)):
        process = machine.alive[pid]
        process.cpu += growth
        process.faults += growth
        process.read += 1000 * growth
        process.written += 10 * growth
    machine.write()
    second = watched.sample()[10]

    assert first == {
        "process.rss.bytes": 23 * PAGE_BYTES,
        "process.threads.count": 6,
        "process.count": 3,
        "process.open_files.count": 5,
    }
    assert {name: second[name] for name in RATES} == pytest.approx(
        {
            "process.cpu.percent": 100 * 234 / TICKS_PER_S / STEP_S,
            "process.page_faults.major.per_s": 234 / STEP_S,
            "process.read.bytes_per_s": 234_000 / STEP_S,
            "process.written.bytes_per_s": 2340 / STEP_S,
        }
    )
    assert set(second) == {metric.name for metric in ProcessesCollector.metrics if "#" not in metric.name}


def test_a_child_that_writes_a_stream_of_its_own_counts_for_that_alone(machine: FakeProcesses) -> None:
    machine.born(10, INIT, rss_pages=1)
    machine.born(11, 10, rss_pages=2)
    machine.born(12, 11, rss_pages=4)
    watched = Watched(machine.root, 10, 11)
    machine.write()
    watched.sample()

    machine.alive[10].cpu += 1
    machine.alive[12].cpu += 50
    machine.write()

    assert watched.used() == pytest.approx({10: 1, 11: 50})
    assert [each["process.count"] for each in watched.sample().values()] == [1, 2]


def test_a_child_that_begins_to_write_moves_from_its_parents_tree_without_a_jump(
    machine: FakeProcesses,
) -> None:
    machine.born(10, INIT)
    machine.born(11, 10, cpu=5000)
    watched = Watched(machine.root, 10)
    machine.write()
    watched.sample()

    machine.alive[11].cpu += 7
    machine.write()
    watched.writers.append(11)

    assert watched.used() == pytest.approx({10: 0, 11: 7})


def test_what_a_writer_used_before_it_was_seen_is_not_counted(machine: FakeProcesses) -> None:
    machine.write()
    watched = Watched(machine.root, 10)
    watched.sample()

    machine.born(10, INIT, cpu=4000, waited_cpu=700)
    machine.born(11, 10, cpu=900)
    machine.write()

    assert RATES.isdisjoint(watched.sample()[10])
    machine.alive[10].cpu += 3
    machine.write()
    assert watched.used() == pytest.approx({10: 3})


def test_children_that_end_leave_what_they_used_and_no_jump(machine: FakeProcesses) -> None:
    machine.born(10, INIT)
    machine.born(11, 10, cpu=5000, read=5000)
    watched = Watched(machine.root, 10)
    machine.write()
    watched.sample()

    machine.alive[11].cpu += 20
    machine.alive[11].read += 20
    machine.exits(11)
    machine.waited_for(11)
    machine.born(12, 10, cpu=300, read=300)
    machine.exits(12)
    machine.waited_for(12)
    machine.write()
    values = watched.sample()[10]

    assert values["process.cpu.percent"] == pytest.approx(100 * 320 / TICKS_PER_S / STEP_S)
    assert values["process.read.bytes_per_s"] == pytest.approx(320 / STEP_S)


def test_children_nobody_waits_for_take_nothing_from_their_parent(machine: FakeProcesses) -> None:
    machine.born(10, INIT, read=1)
    machine.born(11, 10, cpu=5000, read=5000)
    watched = Watched(machine.root, 10)
    machine.write()
    watched.sample()

    machine.alive[10].cpu += 40
    machine.alive[10].read += 40
    machine.exits(11)
    machine.forgotten(11)
    machine.write()
    values = watched.sample()[10]

    assert values["process.cpu.percent"] == pytest.approx(100 * 40 / TICKS_PER_S / STEP_S)
    # Whether the parent's bytes have the child's in them is not to be known at first.
    assert values["process.read.bytes_per_s"] == 0
    machine.alive[10].read += 30
    machine.write()
    assert watched.sample()[10]["process.read.bytes_per_s"] == pytest.approx(30 / STEP_S)


def test_a_child_that_wrote_a_stream_of_its_own_leaves_nothing_to_its_parents(machine: FakeProcesses) -> None:
    machine.born(10, INIT)
    machine.born(11, 10, cpu=5000, read=5000)
    watched = Watched(machine.root, 10, 11)
    machine.write()
    watched.sample()

    machine.alive[11].cpu += 6400
    machine.exits(11)
    machine.waited_for(11)
    machine.alive[10].cpu += 2
    machine.write()
    watched.writers.remove(11)
    values = watched.sample()[10]

    assert values["process.cpu.percent"] == pytest.approx(100 * 2 / TICKS_PER_S / STEP_S)
    assert "process.read.bytes_per_s" not in values


def test_orphans_stay_with_the_run_that_started_them(machine: FakeProcesses) -> None:
    machine.born(10, INIT)
    machine.born(11, 10)
    machine.born(12, 11)
    watched = Watched(machine.root, 10)
    machine.write()
    watched.sample()

    machine.exits(11)
    machine.waited_for(11)
    machine.born(13, 12)
    machine.alive[12].cpu += 30
    machine.alive[13].cpu += 4
    machine.write()

    assert machine.alive[12].parent == INIT
    assert watched.used() == pytest.approx({10: 34})


def test_what_an_adopted_process_used_before_is_not_counted(machine: FakeProcesses) -> None:
    # As a subreaper (prctl(2)) adopts orphans.
    machine.born(10, INIT)
    machine.born(60, INIT)
    machine.born(61, 60, cpu=5000, read=5000)
    watched = Watched(machine.root, 10)
    machine.write()
    watched.sample()

    machine.exits(60)
    machine.waited_for(60)
    machine.alive[61].parent = 10
    machine.alive[61].cpu += 9
    machine.write()
    first = watched.used()
    machine.alive[61].cpu += 5
    machine.write()

    assert (first, watched.used()) == ({10: 0}, {10: pytest.approx(5)})


def test_a_pid_that_is_used_again_is_another_process(machine: FakeProcesses) -> None:
    machine.born(10, INIT)
    machine.born(11, 10)
    machine.born(12, 11, cpu=10)
    watched = Watched(machine.root, 10)
    machine.write()
    watched.sample()

    machine.exits(11)
    machine.waited_for(11)
    machine.exits(12)
    machine.waited_for(12)
    machine.born(12, INIT, cpu=9000)
    machine.born(11, 10, cpu=70)
    machine.write()

    assert watched.used() == pytest.approx({10: 70})


def test_a_writer_whose_pid_is_used_again_begins_anew(machine: FakeProcesses) -> None:
    machine.born(10, INIT, cpu=100)
    watched = Watched(machine.root, 10)
    machine.write()
    watched.sample()

    machine.exits(10)
    machine.waited_for(10)
    machine.born(10, INIT, cpu=9000)
    machine.write()

    assert RATES.isdisjoint(watched.sample()[10])


def test_zombies_hold_nothing(machine: FakeProcesses) -> None:
    machine.born(10, INIT)
    machine.born(11, 10, rss_pages=5, files=7)
    watched = Watched(machine.root, 10)
    machine.write()
    watched.sample()

    machine.exits(11)
    machine.write()
    values = watched.sample()[10]

    assert (values["process.count"], values["process.threads.count"]) == (1, 1)
    assert values["process.rss.bytes"] == PAGE_BYTES
    assert values["process.open_files.count"] == 3


class CountingKernel(Kernel):
    """Counts the files that are read."""

    reads: list[str]

    def text(self, name: str) -> str | None:
        self.reads.append(name)
        return super().text(name)


def test_io_of_processes_that_are_not_for_us_is_left_out_and_not_asked_for_again(
    machine: FakeProcesses,
) -> None:
    machine.born(10, INIT)
    machine.born(11, 10, readable=False)
    watched = Watched(machine.root, 10)
    kernel = CountingKernel(str(machine.root))
    kernel.reads = []
    watched.collector._kernel = kernel
    machine.write()

    watched.sample()
    asked_first = [name for name in kernel.reads if name.endswith("11/io")]
    kernel.reads.clear()
    values = watched.sample()[10]

    assert asked_first == ["proc/11/io"]
    assert [name for name in kernel.reads if name.endswith("io")] == ["proc/10/io"]
    assert set(values) & RATES == {"process.cpu.percent", "process.page_faults.major.per_s"}


def test_many_processes_are_files_to_read_once_only(machine: FakeProcesses) -> None:
    for pid in range(100, 600):
        machine.born(pid, INIT if pid % 5 == 0 else pid - 1)
    machine.write()
    kernel = CountingKernel(str(machine.root))
    kernel.reads = []
    table = ParentTable(kernel)

    first = table.read()
    read_at_first = len(kernel.reads)
    kernel.reads.clear()
    second = table.read()

    assert first == second == {pid: each.parent for pid, each in machine.alive.items()}
    assert (read_at_first, kernel.reads) == (501, [])
    machine.exits(200)
    machine.waited_for(200)
    machine.write()
    assert table.read() == {pid: each.parent for pid, each in machine.alive.items()}
    assert kernel.reads == ["proc/201/stat"]


def test_passes_become_rare_where_they_are_dear(machine: FakeProcesses) -> None:
    machine.born(10, INIT)
    machine.write()
    watched = Watched(machine.root, 10)
    spent = iter([0.0, 0.012, 1.0, 99.0, 100.0, 100.0])
    watched.collector._pace._processor_s = lambda: next(spent)

    def passes_at(now: float) -> bool:
        watched.now = now
        return bool(watched.collector.sample().runs)

    # 12 ms are 0.2 % of 6 s.
    assert [passes_at(now) for now in (100, 102, 105.9, 106.1)] == [True, False, False, True]
    # However long it took.
    assert [passes_at(106.1 + rest) for rest in (PACE_LONGEST_S - 1, PACE_LONGEST_S)] == [False, True]


def test_where_the_kernel_does_not_tell_open_files_are_counted_seldom(machine: FakeProcesses) -> None:
    machine.born(10, INIT, files=6)
    machine.write()
    watched = Watched(machine.root, 10)
    watched.collector._pace._processor_s = lambda: 0.0

    def count_at(now: float) -> float | None:
        watched.now = now
        return watched.collector.sample().runs[0, stream(10)].get("process.open_files.count")

    assert [count_at(now) for now in (1, 3, OPEN_FILES_INTERVAL_S, OPEN_FILES_INTERVAL_S + 1)] == [
        6,
        None,
        None,
        6,
    ]


def test_without_runs_nothing_is_read(machine: FakeProcesses) -> None:
    kernel = CountingKernel("/nowhere")
    kernel.reads = []
    collector = ProcessesCollector(Context(kernel=kernel))

    assert collector.sample().runs == {}
    assert kernel.reads == []


def test_a_writer_that_is_gone_or_out_of_sight_has_no_values(machine: FakeProcesses) -> None:
    machine.born(10, INIT)
    machine.write()

    assert list(Watched(machine.root, 9, 0, 10).sample()) == [10]


def test_one_process_shows_once_with_each_run_it_writes() -> None:
    live = [
        LiveRun((5, stream(2)), "a", 10),
        LiveRun((5, stream(1)), "a", 10),
        LiveRun((5, stream(3)), "b", 10),
        LiveRun((5, stream(4)), "a", 11),
        LiveRun((5, stream(5)), "a", 0),
    ]

    assert by_writer(live) == {10: [(5, stream(1)), (5, stream(3))], 11: [(5, stream(4))]}


def test_gpus_of_a_tree_are_those_its_processes_were_seen_on(machine: FakeProcesses) -> None:
    machine.born(10, INIT)
    machine.born(11, 10)
    machine.born(20, INIT)
    machine.write()
    gpus = GpuProcesses()
    watched = Watched(machine.root, 10, 20, gpus=gpus)
    gpus.put(
        [
            GpuProcess(10, "GPU-a", 0, 100, 25.0),
            GpuProcess(11, "GPU-a", 0, 30, 5.0),
            GpuProcess(11, "GPU-b", 1, None, None),
            GpuProcess(11, "MIG-c", 2, 7, None, mig=3),
            GpuProcess(11, "MIG-d", 2, 8, None, mig=4),
            GpuProcess(99, "GPU-a", 0, 10_000, 70.0),
        ],
        [],
    )

    values = watched.sample()

    assert {name: value for name, value in values[10].items() if "gpu" in name} == {
        "process.gpu.0.memory.bytes": 130,
        "process.gpu.0.utilization.percent": 30,
        "process.gpu.2.memory.bytes": 15,
        "process.gpu.2.mig.3.memory.bytes": 7,
        "process.gpu.2.mig.4.memory.bytes": 8,
    }
    assert not any("gpu" in name for name in values[20])
    gpus.put([], [])
    assert not any("gpu" in name for name in watched.sample()[10])
