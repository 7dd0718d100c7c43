"""The collectors cpu and frequency, on machines made of files and on this one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.agent_process import wait_until
from tests.support.fixture_host import FixtureHost
from tracker_agent.collectors.collector import Collector, CollectorError, NothingHere
from tracker_agent.collectors.cpu import CpuCollector, CpuSettings
from tracker_agent.collectors.frequency import CLOCKS_MAX, FrequencyCollector

ZERO = (0,) * 10


@pytest.fixture
def host(tmp_path: Path) -> FixtureHost:
    return FixtureHost("empty", tmp_path / "host")


def stat(host: FixtureHost, *cores: tuple[int, ...], names: list[int] | None = None, rest: str = "") -> None:
    """Write /proc/stat. Columns: user nice system idle iowait irq softirq steal guest guest_nice."""
    numbers = names or list(range(len(cores)))
    lines = ["cpu  9 9 9 9 9 9 9 9 9 9"]
    lines += [f"cpu{number} {' '.join(map(str, core))}" for number, core in zip(numbers, cores, strict=True)]
    host.write("proc/stat", "\n".join(lines) + "\n" + rest)
    host.advance(2)


def core(
    user: int = 0, nice: int = 0, system: int = 0, idle: int = 0, iowait: int = 0, irq: int = 0, **more: int
) -> tuple[int, ...]:
    return (user, nice, system, idle, iowait, irq) + tuple(
        more.get(name, 0) for name in ("softirq", "steal", "guest", "guest_nice")
    )


@pytest.mark.parametrize("kind", [CpuCollector])
def test_collector_brings_what_its_table_says_on_this_machine(kind: type[Collector]) -> None:
    collector = kind()
    declared = {metric.name for metric in collector.metrics if "#" not in metric.name}

    def second() -> dict[str, float] | None:
        values = dict(collector.sample().values)
        return values if len(values) == len(declared) else None

    values = wait_until(second, what="rates and percentages")
    assert set(values) == declared
    for name, value in values.items():
        assert value >= 0, name
        if name.endswith("percent"):
            assert value <= 100, name


def test_cpu_percents_are_shares_of_all_cores(host: FixtureHost) -> None:
    collector = CpuCollector(host.context())
    stat(host, ZERO, ZERO)
    assert set(collector.sample().values) == {"host.cpu.cores.count"}

    stat(host, core(user=6, nice=1, system=1, softirq=1, idle=1), core(idle=7, iowait=2, steal=1))

    assert collector.sample().values == {
        "host.cpu.cores.count": 2.0,
        "host.cpu.percent": 50.0,
        "host.cpu.user.percent": 35.0,
        "host.cpu.system.percent": 10.0,
        "host.cpu.irq.percent": 5.0,
        "host.cpu.iowait.percent": 10.0,
        "host.cpu.steal.percent": 5.0,
        "host.cpu.core_max.percent": 90.0,
        "host.cpu.cores_busy.count": 0.0,
    }


def test_guest_time_is_not_counted_twice(host: FixtureHost) -> None:
    # The kernel counts a guest's time as user time too.
    collector = CpuCollector(host.context())
    stat(host, ZERO)
    collector.sample()

    stat(host, core(user=5, guest=5, idle=5))

    assert collector.sample().values["host.cpu.percent"] == 50.0


def test_iowait_that_goes_backwards_is_not_negative(host: FixtureHost) -> None:
    collector = CpuCollector(host.context())
    stat(host, core(iowait=9))
    collector.sample()

    stat(host, core(iowait=8, idle=10))

    values = collector.sample().values
    assert values["host.cpu.iowait.percent"] == 0
    assert values["host.cpu.percent"] == 0


def test_core_that_goes_offline_leaves_the_others_measured(host: FixtureHost) -> None:
    collector = CpuCollector(host.context())
    stat(host, ZERO, core(user=1000), ZERO)
    collector.sample()

    stat(host, core(user=5, idle=5), core(idle=10), names=[0, 2])

    values = collector.sample().values
    assert values["host.cpu.percent"] == 25.0
    assert values["host.cpu.cores.count"] == 2


def test_core_that_comes_back_counts_from_its_second_sample_on(host: FixtureHost) -> None:
    collector = CpuCollector(host.context())
    stat(host, ZERO)
    collector.sample()

    stat(host, core(idle=10), core(user=10**9, idle=10**9))
    assert collector.sample().values["host.cpu.percent"] == 0

    stat(host, core(idle=20), core(user=10**9 + 10, idle=10**9))
    assert collector.sample().values["host.cpu.percent"] == 50.0


def test_core_that_was_off_between_two_samples_is_left_out_of_them(host: FixtureHost) -> None:
    # Its idle time goes on from another value then, in either direction.
    collector = CpuCollector(host.context())
    stat(host, core(idle=10**6), core(idle=10**6), ZERO)
    collector.sample()

    stat(host, core(user=50, idle=10**5), core(user=50, idle=2 * 10**6), core(user=50, idle=150))

    values = collector.sample().values
    assert values["host.cpu.percent"] == 25
    assert values["host.cpu.core_max.percent"] == 25


def test_machine_that_stood_still_for_others_brings_no_percents(host: FixtureHost) -> None:
    # A virtual machine that was moved: hours of steal in one interval.
    collector = CpuCollector(host.context())
    stat(host, ZERO)
    collector.sample()

    stat(host, core(idle=200, steal=360_000))

    assert set(collector.sample().values) == {"host.cpu.cores.count"}


def test_core_above_95_percent_is_busy(host: FixtureHost) -> None:
    collector = CpuCollector(host.context())
    stat(host, ZERO, ZERO, ZERO)
    collector.sample()

    stat(host, core(user=95, idle=5), core(user=96, idle=4), core(system=100))

    values = collector.sample().values
    assert values["host.cpu.cores_busy.count"] == 2
    assert values["host.cpu.core_max.percent"] == 100


def test_two_samples_within_one_tick_bring_no_percents(host: FixtureHost) -> None:
    collector = CpuCollector(host.context())
    stat(host, core(user=5))
    collector.sample()

    assert set(collector.sample().values) == {"host.cpu.cores.count"}


def test_counters_of_the_whole_machine_become_rates(tmp_path: Path) -> None:
    host = FixtureHost("amd-128c", tmp_path / "host")
    collector = CpuCollector(host.context())
    first = collector.sample().values
    for row, growth in (("ctxt", 5000), ("intr", 700), ("processes", 30)):
        host.grow("proc/stat", row, 1, growth)
    host.advance(10)

    values = collector.sample().values

    assert first["host.cpu.running.count"] == 3
    assert first["host.cpu.blocked.count"] == 1
    assert first["host.cpu.load1"] == 64.02
    assert first["host.cpu.load15"] == 60.11
    assert first["host.cpu.threads.count"] == 4800
    assert values["host.cpu.context_switches_per_s"] == 500
    assert values["host.cpu.interrupts_per_s"] == 70
    assert values["host.cpu.forks_per_s"] == 3


def test_counter_that_went_back_brings_no_rate(tmp_path: Path) -> None:
    host = FixtureHost("slurm-v1", tmp_path / "host")
    collector = CpuCollector(host.context())
    collector.sample()
    host.grow("proc/stat", "ctxt", 1, -900)
    host.grow("proc/stat", "processes", 1, 4)
    host.advance(2)

    values = collector.sample().values

    assert "host.cpu.context_switches_per_s" not in values
    assert values["host.cpu.forks_per_s"] == 2


def test_each_core_shows_on_request_only(tmp_path: Path) -> None:
    host = FixtureHost("amd-128c", tmp_path / "host")
    plain = CpuCollector(host.context())
    wide = CpuCollector(host.context(settings=CpuSettings(per_core=True)))
    plain.sample(), wide.sample()
    for number in range(128):
        host.grow("proc/stat", f"cpu{number}", 4, 100)
    host.grow("proc/stat", "cpu100", 1, 300)
    host.advance(2)

    few, many = plain.sample().values, wide.sample().values

    assert len(few) == 18
    assert many["host.cpu.100.percent"] == 75
    assert many["host.cpu.core_max.percent"] == 75
    assert len(many) == len(few) + 128


def test_columns_that_an_old_kernel_lacks_are_nothing(host: FixtureHost) -> None:
    collector = CpuCollector(host.context())
    stat(host, (0, 0, 0, 0))
    collector.sample()

    stat(host, (5, 0, 0, 5))

    values = collector.sample().values
    assert values["host.cpu.percent"] == 50
    assert values["host.cpu.steal.percent"] == 0


def test_machine_without_proc_has_nothing_here(host: FixtureHost) -> None:
    with pytest.raises(NothingHere):
        CpuCollector(host.context()).sample()


def test_load_is_told_where_proc_stat_is_hidden(host: FixtureHost) -> None:
    host.write("proc/loadavg", "1.50 1.00 0.50 2/80 4711\n")

    reading = CpuCollector(host.context()).sample()

    assert reading.values["host.cpu.load1"] == 1.5
    assert reading.problems == ("no /proc/stat",)


def test_broken_line_costs_its_own_values_only(host: FixtureHost) -> None:
    host.write("proc/loadavg", "1.50 nan? 0.50 x/80 4711\n")
    rest = "cpux 1 2 3 4\ncpu7 1 two 3 4\nctxt many\nprocesses\nprocs_running 4\n"
    collector = CpuCollector(host.context())
    stat(host, ZERO, rest=rest)
    collector.sample()
    stat(host, core(user=5, idle=5), rest=rest)

    values = collector.sample().values

    assert values["host.cpu.percent"] == 50
    assert values["host.cpu.cores.count"] == 1
    assert values["host.cpu.running.count"] == 4
    assert values["host.cpu.load1"] == 1.5
    assert values["host.cpu.load15"] == 0.5
    assert not {"host.cpu.load5", "host.cpu.threads.count"} & set(values)


def test_proc_stat_without_cores_is_broken_not_idle(host: FixtureHost) -> None:
    host.write("proc/stat", "intr 5\n")

    with pytest.raises(CollectorError, match="names no cores"):
        CpuCollector(host.context()).sample()


times = st.lists(st.integers(0, 10**12), min_size=10, max_size=10)
# In two seconds; a little backwards happens.
changes = st.lists(st.integers(-20, 60), min_size=10, max_size=10)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(times, changes), min_size=1, max_size=4))
def test_percents_agree_with_a_naive_count(
    tmp_path_factory: pytest.TempPathFactory, changed: list[tuple[list[int], list[int]]]
) -> None:
    cores = [(old, [a + b for a, b in zip(old, more, strict=True)]) for old, more in changed]
    host = FixtureHost("empty", tmp_path_factory.mktemp("m") / "host")
    collector = CpuCollector(host.context(settings=CpuSettings(per_core=True)))
    stat(host, *(tuple(before) for before, _ in cores))
    collector.sample()
    stat(host, *(tuple(after) for _, after in cores))

    values = collector.sample().values

    spent = [[max(0, b - a) for a, b in zip(old[:8], new[:8], strict=True)] for old, new in cores]
    total = sum(map(sum, spent))
    if not total:
        assert "host.cpu.percent" not in values
        return
    idle = sum(each[3] + each[4] for each in spent)
    assert values["host.cpu.percent"] == pytest.approx(100 * (total - idle) / total)
    shares = [values[f"host.cpu.{kind}percent"] for kind in ("user.", "system.", "iowait.", "steal.", "")]
    assert sum(shares[:2]) + shares[3] == pytest.approx(shares[4])
    assert all(0 <= share <= 100 for share in shares)
    for number, each in enumerate(spent):
        busy = 100 * (sum(each) - each[3] - each[4]) / sum(each) if sum(each) else 0
        assert values[f"host.cpu.{number}.percent"] == pytest.approx(busy)


def test_clocks_of_cores_of_two_kinds(tmp_path: Path) -> None:
    host = FixtureHost("hybrid", tmp_path / "host")
    host.write("sys/devices/system/cpu/cpufreq/policy3/scaling_max_freq", "1200000\n")

    values = FrequencyCollector(host.context()).sample().values

    assert values == {
        "host.frequency.mean.mhz": 4100,
        "host.frequency.min.mhz": 3400,
        "host.frequency.max.mhz": 4800,
        "host.frequency.limit.mhz": 1200,
    }


def test_old_kernel_keeps_clocks_with_each_core(tmp_path: Path) -> None:
    host = FixtureHost("slurm-v1", tmp_path / "host")

    assert FrequencyCollector(host.context()).sample().values["host.frequency.mean.mhz"] == 2600


def test_clock_that_the_driver_does_not_know_is_left_out(tmp_path: Path) -> None:
    host = FixtureHost("slurm-v1", tmp_path / "host")
    for number in range(15):
        host.write(f"sys/devices/system/cpu/cpu{number}/cpufreq/scaling_cur_freq", "<unknown>\n")

    assert FrequencyCollector(host.context()).sample().values["host.frequency.min.mhz"] == 2600


@pytest.mark.parametrize("machine", ["container", "empty"])
def test_machine_without_cpufreq_has_no_clocks(tmp_path: Path, machine: str) -> None:
    with pytest.raises(NothingHere):
        FrequencyCollector(FixtureHost(machine, tmp_path / "host").context()).sample()


def test_many_clocks_are_read_in_part_spread_over_all(host: FixtureHost) -> None:
    for number in range(CLOCKS_MAX * 2):
        policy = f"sys/devices/system/cpu/cpufreq/policy{number:04}"
        host.write(f"{policy}/scaling_cur_freq", f"{1000 * (1000 + number)}\n")

    values = FrequencyCollector(host.context()).sample().values

    assert values["host.frequency.min.mhz"] == 1000
    assert values["host.frequency.max.mhz"] == 1000 + 2 * CLOCKS_MAX - 2


def test_proc_stat_of_this_kernel_has_the_columns_that_are_used() -> None:
    with open("/proc/stat") as file:
        columns = file.readline().split()
    assert len(columns) >= 9
    assert os.cpu_count()
