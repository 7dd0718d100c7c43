"""The collectors memory, vmstat, pressure, numa and edac, on machines made of files and on this one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.agent_process import wait_until
from tests.support.fixture_host import MACHINES, FixtureHost
from tests.support.memory_cgroup import memory_cgroup
from tracker_agent.collectors import kernel as kernel_files
from tracker_agent.collectors.collector import Collector, CollectorError, NothingHere
from tracker_agent.collectors.edac import EdacCollector
from tracker_agent.collectors.growth import Growth
from tracker_agent.collectors.memory import MemoryCollector
from tracker_agent.collectors.numa import NODES_MAX, NumaCollector
from tracker_agent.collectors.pressure import PressureCollector
from tracker_agent.collectors.vmstat import EVENT_INTERVAL_S, VmstatCollector

GIB = 2**30


def take(machine: str, tmp_path: Path) -> FixtureHost:
    return FixtureHost(machine, tmp_path / "host")


def statvfs(blocks: int, available: int) -> Any:
    return lambda path: SimpleNamespace(f_blocks=blocks, f_bavail=available, f_frsize=4096)


@pytest.mark.parametrize("kind", [MemoryCollector, VmstatCollector])
def test_collector_brings_what_its_table_says_on_this_machine(kind: type[Collector]) -> None:
    collector = kind()
    declared = {metric.name for metric in collector.metrics}
    swap = {"host.memory.swap.percent"} if not _has_swap() else set()

    def second() -> dict[str, float] | None:
        values = dict(collector.sample().values)
        return values if declared - swap <= set(values) else None

    values = wait_until(second, what="all values")
    assert set(values) <= declared
    assert all(value >= 0 for value in values.values())


def _has_swap() -> bool:
    with open("/proc/swaps") as file:
        return len(file.readlines()) > 1


def test_used_memory_is_what_cannot_be_had(tmp_path: Path) -> None:
    host = take("empty", tmp_path)
    host.write("proc/meminfo", "MemTotal: 1000 kB\nMemFree: 5 kB\nMemAvailable: 250 kB\nShmem: 30 kB\n")

    values = MemoryCollector(host.context()).sample().values

    assert values == {
        "host.memory.total.bytes": 1000 * 1024,
        "host.memory.available.bytes": 250 * 1024,
        "host.memory.used.bytes": 750 * 1024,
        "host.memory.percent": 75,
        "host.memory.free.bytes": 5 * 1024,
        "host.memory.shared.bytes": 30 * 1024,
    }


def test_memory_of_a_large_machine(tmp_path: Path) -> None:
    host = take("intel-2s", tmp_path)

    values = MemoryCollector(host.context(), statvfs(1000, 400)).sample().values

    assert set(values) == {metric.name for metric in MemoryCollector.metrics}
    assert values["host.memory.total.bytes"] == 512 * GIB - 123456 * 1024
    assert values["host.memory.available.bytes"] == 400 * GIB
    assert values["host.memory.dirty.bytes"] == 41064 * 1024
    assert values["host.memory.writeback.bytes"] == 1280 * 1024
    assert values["host.memory.slab.bytes"] == 3264664 * 1024
    assert values["host.memory.slab_unreclaimable.bytes"] == 656604 * 1024
    assert values["host.memory.shared.bytes"] == 8388608 * 1024
    assert values["host.memory.cached.bytes"] == (200 * 2**20 + 8388608) * 1024
    assert values["host.memory.hugepages_total.bytes"] == 2 * GIB
    assert values["host.memory.hugepages_used.bytes"] == 1 * GIB
    assert values["host.memory.swap_total.bytes"] == 8388604 * 1024
    assert values["host.memory.swap_used.bytes"] == 388604 * 1024
    assert values["host.memory.swap.percent"] == pytest.approx(4.6325, abs=1e-3)
    assert values["host.memory.dev_shm.percent"] == 60
    assert values["host.memory.dev_shm_used.bytes"] == 600 * 4096
    assert values["host.memory.dev_shm_total.bytes"] == 1000 * 4096


def test_machine_without_swap_uses_none_of_it_and_has_no_share(tmp_path: Path) -> None:
    values = MemoryCollector(take("amd-128c", tmp_path).context()).sample().values

    assert values["host.memory.swap_used.bytes"] == 0
    assert values["host.memory.swap_total.bytes"] == 0
    assert "host.memory.swap.percent" not in values


def test_old_kernel_without_memavailable_has_an_estimate(tmp_path: Path) -> None:
    host = take("empty", tmp_path)
    host.write("proc/meminfo", "MemTotal: 1000 kB\nMemFree: 100 kB\nBuffers: 50 kB\nCached: 150 kB\n")

    assert MemoryCollector(host.context()).sample().values["host.memory.percent"] == 70


def test_more_available_than_there_is_is_all_there_is(tmp_path: Path) -> None:
    host = take("empty", tmp_path)
    host.write("proc/meminfo", "MemTotal: 1000 kB\nMemAvailable: 1100 kB\n")

    assert MemoryCollector(host.context()).sample().values["host.memory.used.bytes"] == 0


def test_shm_without_a_limit_cannot_be_full(tmp_path: Path) -> None:
    host = take("container", tmp_path)

    values = MemoryCollector(host.context(), statvfs(0, 0)).sample().values

    assert not [name for name in values if "dev_shm" in name]


def test_shm_that_is_not_there_is_no_failure(tmp_path: Path) -> None:
    values = MemoryCollector(take("container", tmp_path).context()).sample().values

    assert values["host.memory.total.bytes"] > 0
    assert not [name for name in values if "dev_shm" in name]


def test_shm_of_this_machine_is_measured_as_the_kernel_says() -> None:
    system = os.statvfs("/dev/shm")

    values = MemoryCollector().sample().values

    assert values["host.memory.dev_shm_total.bytes"] == system.f_blocks * system.f_frsize


def test_meminfo_without_total_is_broken(tmp_path: Path) -> None:
    host = take("empty", tmp_path)
    host.write("proc/meminfo", "MemFree: 5 kB\n")

    with pytest.raises(CollectorError, match="MemTotal"):
        MemoryCollector(host.context()).sample()


def test_vmstat_counters_become_rates(tmp_path: Path) -> None:
    host = take("intel-2s", tmp_path)
    collector = VmstatCollector(host.context())
    assert collector.sample().values == {"host.vmstat.oom_kills.count": 2}
    growths = {"pgfault": 1000, "pgmajfault": 50, "pswpin": 8, "pswpout": 16, "compact_stall": 6}
    for row, growth in {**growths, "allocstall_normal": 3, "allocstall_movable": 1}.items():
        host.grow("proc/vmstat", row, 1, growth)
    host.advance(2)

    page = os.sysconf("SC_PAGE_SIZE")
    assert collector.sample().values == {
        "host.vmstat.faults_per_s": 500,
        "host.vmstat.major_faults_per_s": 25,
        "host.vmstat.swapped_in.bytes_per_s": 4 * page,
        "host.vmstat.swapped_out.bytes_per_s": 8 * page,
        "host.vmstat.direct_reclaims_per_s": 2,
        "host.vmstat.compactions_per_s": 3,
        "host.vmstat.oom_kills.count": 2,
    }


def test_kill_for_want_of_memory_is_an_event(tmp_path: Path) -> None:
    host = take("intel-2s", tmp_path)
    collector = VmstatCollector(host.context())
    assert collector.sample().events == ()
    host.grow("proc/vmstat", "oom_kill", 1, 1)
    host.advance(2)

    (event,) = collector.sample().events

    assert event.level == "error"
    assert event.time == host.now * 1e9
    assert event.facts == {"oom_kills": 1, "oom_kills_since_boot": 3}
    assert "killed a process" in event.text
    host.advance(2)
    assert collector.sample().events == ()


def test_real_kill_for_want_of_memory_is_an_event() -> None:
    collector = VmstatCollector()
    before = collector.sample().values["host.vmstat.oom_kills.count"]
    eat = "import sys; open(sys.argv[1], 'w').write('0'); eaten = bytearray(b'1') * 2**30"
    with memory_cgroup(32 * 2**20) as cgroup:
        command = [sys.executable, "-c", eat, str(cgroup / "cgroup.procs")]
        ended = subprocess.run(command, check=False, timeout=60)
    assert ended.returncode == -signal.SIGKILL

    reading = collector.sample()

    # Other tests may have had processes killed too.
    assert reading.values["host.vmstat.oom_kills.count"] > before
    assert [event.title for event in reading.events] == ["Out of memory"]


def test_kills_of_a_minute_are_told_together(tmp_path: Path) -> None:
    host = take("intel-2s", tmp_path)
    collector = VmstatCollector(host.context())
    collector.sample()
    told = []
    for _ in range(100):
        host.grow("proc/vmstat", "oom_kill", 1, 1)
        host.advance(2)
        told += [event.facts["oom_kills"] for event in collector.sample().events]
    host.advance(EVENT_INTERVAL_S)
    told += [event.facts["oom_kills"] for event in collector.sample().events]

    assert told == [1, 30, 30, 30, 9]


def test_old_kernel_counts_no_kills(tmp_path: Path) -> None:
    host = take("slurm-v1", tmp_path)
    collector = VmstatCollector(host.context())
    collector.sample()
    host.grow("proc/vmstat", "allocstall", 1, 4)
    host.advance(2)

    reading = collector.sample()

    assert reading.values["host.vmstat.direct_reclaims_per_s"] == 2
    assert "host.vmstat.oom_kills.count" not in reading.values
    assert reading.events == ()


def test_pressure_is_the_share_of_time_since_the_sample_before(tmp_path: Path) -> None:
    host = take("intel-2s", tmp_path)
    collector = PressureCollector(host.context())
    assert collector.sample().values == {}
    host.replace("proc/pressure/cpu", "total=6797915197", "total=6798915197")
    host.replace("proc/pressure/io", "total=201955131", "total=202055131")
    host.advance(2)

    assert collector.sample().values == {
        "host.pressure.cpu.some.percent": 50,
        "host.pressure.io.some.percent": 0,
        "host.pressure.io.full.percent": 5,
        "host.pressure.memory.some.percent": 0,
        "host.pressure.memory.full.percent": 0,
        "host.pressure.irq.full.percent": 0,
    }


def test_pressure_never_exceeds_the_whole_time(tmp_path: Path) -> None:
    host = take("container", tmp_path)
    collector = PressureCollector(host.context())
    collector.sample()
    host.replace("proc/pressure/cpu", "total=5197", "total=2105197")
    host.advance(2)

    assert collector.sample().values["host.pressure.cpu.some.percent"] == 100


@pytest.mark.parametrize("machine", ["slurm-v1", "hybrid", "empty"])
def test_kernel_without_pressure_has_nothing_here(tmp_path: Path, machine: str) -> None:
    with pytest.raises(NothingHere):
        PressureCollector(take(machine, tmp_path).context()).sample()


def test_pressure_that_is_switched_off_is_nothing_not_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # psi=0: the files are there, and opening them is answered by EOPNOTSUPP. No file system at hand does so.
    def refused(*arguments: object, **more: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(kernel_files, "open", refused, raising=False)

    with pytest.raises(NothingHere):
        PressureCollector(take("intel-2s", tmp_path).context()).sample()


def test_each_numa_node_shows_its_memory_and_misses(tmp_path: Path) -> None:
    host = take("intel-2s", tmp_path)
    collector = NumaCollector(host.context())
    first = collector.sample().values
    host.grow("sys/devices/system/node/node1/numastat", "numa_miss", 1, 100)
    host.grow("sys/devices/system/node/node0/numastat", "numa_foreign", 1, 100)
    host.advance(10)

    values = collector.sample().values

    total = (268435456 - 61728) * 1024
    assert first == {
        "host.numa.0.free.bytes": 100 * GIB,
        "host.numa.0.used.bytes": total - 100 * GIB,
        "host.numa.1.free.bytes": 200 * GIB,
        "host.numa.1.used.bytes": total - 200 * GIB,
        "host.numa.free_min.bytes": 100 * GIB,
    }
    assert values["host.numa.1.miss_per_s"] == 10
    assert values["host.numa.0.miss_per_s"] == 0
    assert values["host.numa.0.foreign_per_s"] == 10
    assert values["host.numa.miss_per_s"] == 10


def test_numa_node_without_memory_is_none(tmp_path: Path) -> None:
    values = NumaCollector(take("amd-128c", tmp_path).context()).sample().values

    assert sum(name.endswith(".used.bytes") for name in values) == 8
    assert "host.numa.8.free.bytes" not in values


@pytest.mark.parametrize("machine", ["hybrid", "container", "empty"])
def test_machine_with_one_node_has_no_numa(tmp_path: Path, machine: str) -> None:
    with pytest.raises(NothingHere):
        NumaCollector(take(machine, tmp_path).context()).sample()


def test_many_numa_nodes_show_their_sum_only(tmp_path: Path) -> None:
    host = take("empty", tmp_path)
    for node in range(NODES_MAX + 1):
        directory = f"sys/devices/system/node/node{node}"
        host.write(
            f"{directory}/meminfo", f"Node {node} MemTotal: 100 kB\nNode {node} MemFree: {node + 1} kB\n"
        )
        host.write(f"{directory}/numastat", "numa_miss 0\nnuma_foreign 0\n")
    collector = NumaCollector(host.context())
    collector.sample()
    host.grow("sys/devices/system/node/node3/numastat", "numa_miss", 1, 5)
    host.advance(1)

    assert collector.sample().values == {"host.numa.free_min.bytes": 1024, "host.numa.miss_per_s": 5}


def test_memory_errors_are_counted(tmp_path: Path) -> None:
    assert EdacCollector(take("intel-2s", tmp_path).context()).sample().values == {
        "host.edac.correctable.count": 3,
        "host.edac.uncorrectable.count": 0,
    }


def test_uncorrectable_error_is_an_event_that_names_the_module(tmp_path: Path) -> None:
    host = take("intel-2s", tmp_path)
    collector = EdacCollector(host.context())
    collector.sample()
    host.add("sys/devices/system/edac/mc/mc1/ue_count", 1)
    host.add("sys/devices/system/edac/mc/mc1/dimm0/dimm_ue_count", 1)
    host.add("sys/devices/system/edac/mc/mc0/ce_count", 7)

    reading = collector.sample()

    (event,) = reading.events
    assert event.level == "error"
    assert event.facts == {
        "controller": "mc1",
        "errors": 1,
        "dimms": ["CPU_SrcID#0_MC#1_Chan#0_DIMM#0"],
    }
    assert reading.values["host.edac.correctable.count"] == 10
    assert reading.values["host.edac.uncorrectable.count"] == 1
    assert collector.sample().events == ()


def test_old_memory_errors_are_no_news(tmp_path: Path) -> None:
    reading = EdacCollector(take("slurm-v1", tmp_path).context()).sample()

    assert reading.values["host.edac.uncorrectable.count"] == 1
    assert reading.events == ()


def test_error_counts_that_were_reset_are_no_news(tmp_path: Path) -> None:
    host = take("slurm-v1", tmp_path)
    collector = EdacCollector(host.context())
    collector.sample()
    host.write("sys/devices/system/edac/mc/mc0/ue_count", "0\n")

    assert collector.sample().events == ()


@pytest.mark.parametrize("kind", [MemoryCollector, VmstatCollector, PressureCollector, EdacCollector])
def test_machine_without_anything_has_nothing_here(tmp_path: Path, kind: type[Collector]) -> None:
    with pytest.raises(NothingHere):
        kind(take("empty", tmp_path).context()).sample()


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize(
    "kind", [MemoryCollector, VmstatCollector, PressureCollector, NumaCollector, EdacCollector]
)
def test_values_have_names_of_the_table_on_every_machine(
    tmp_path: Path, kind: type[Collector], machine: str
) -> None:
    host = take(machine, tmp_path)
    collector = kind(host.context())
    declared = {metric.name for metric in kind.metrics}
    try:
        collector.sample()
        host.advance(2)
        values = collector.sample().values
    except NothingHere:
        return

    general = {".".join("#" if part.isdigit() else part for part in name.split(".")) for name in values}
    assert general <= declared


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.dictionaries(st.sampled_from("abc"), st.integers(0, 2**64)), st.floats(0, 100, width=16)
        ),
        min_size=1,
        max_size=8,
    )
)
def test_growth_is_what_a_counter_with_a_past_gained(
    steps: list[tuple[dict[str, int], float]],
) -> None:
    growth, now = Growth(), 50.0
    before: dict[str, int] | None = None
    for counters, seconds in steps:
        now += seconds
        rates = growth.per_second(counters, now)
        expected = {
            name: (value - before[name]) / seconds
            for name, value in counters.items()
            if before is not None and seconds > 0 and name in before and value >= before[name]
        }
        assert rates == pytest.approx(expected)
        assert all(rate >= 0 for rate in rates.values())
        before = counters
