"""The collectors thermal and power, on machines made of files."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.fixture_host import MACHINES, FixtureHost
from tracker_agent.collectors.collector import Collector, NothingHere
from tracker_agent.collectors.kernel import Kernel
from tracker_agent.collectors.power import WATTS_MAX, PowerCollector, watts_between
from tracker_agent.collectors.thermal import RESCAN_S, ThermalCollector

RAPL = "sys/class/powercap"
THROTTLE = "sys/devices/system/cpu/cpu{}/thermal_throttle"


def take(machine: str, tmp_path: Path) -> FixtureHost:
    return FixtureHost(machine, tmp_path / "host")


def test_each_chip_is_shown_by_its_hottest_sensor(tmp_path: Path) -> None:
    values = ThermalCollector(take("amd-128c", tmp_path).context()).sample().values

    assert values["host.thermal.k10temp-0.celsius"] == 71.25
    assert values["host.thermal.k10temp-1.celsius"] == 69
    assert values["host.thermal.nvme-7.celsius"] == 39.85
    assert values["host.thermal.cpu.celsius"] == 71.25
    assert values["host.thermal.max.celsius"] == 71.25


def test_many_chips_are_shown_in_part_processors_first(tmp_path: Path) -> None:
    host = take("amd-128c", tmp_path)
    host.write("sys/class/hwmon/hwmon90/name", "coretemp\n")
    host.write("sys/class/hwmon/hwmon90/temp1_input", "99000\n")
    host.write("sys/class/hwmon/hwmon21/temp1_input", "101000\n")

    values = ThermalCollector(host.context()).sample().values

    shown = [name for name in values if "-" in name]
    assert len(shown) == 16
    assert values["host.thermal.coretemp-0.celsius"] == 99
    assert "host.thermal.mlx5-11.celsius" not in values
    assert values["host.thermal.max.celsius"] == 101


def test_package_sensor_stands_for_its_cores(tmp_path: Path) -> None:
    host = take("intel-2s", tmp_path)
    # Asking a core's sensor would wake the core up; what it says must not matter.
    host.write("sys/class/hwmon/hwmon1/temp5_input", "99000\n")

    values = ThermalCollector(host.context()).sample().values

    assert values["host.thermal.coretemp-0.celsius"] == 61
    assert values["host.thermal.coretemp-1.celsius"] == 64
    assert values["host.thermal.cpu.celsius"] == 64
    # The zones x86_pkg_temp are the same sensors again.
    assert not [name for name in values if "pkg" in name]


def test_cores_stand_for_a_package_without_sensor(tmp_path: Path) -> None:
    values = ThermalCollector(take("slurm-v1", tmp_path).context()).sample().values

    assert values["host.thermal.coretemp-0.celsius"] == 57


def test_zones_show_where_no_chip_does_and_nonsense_is_left_out(tmp_path: Path) -> None:
    values = ThermalCollector(take("hybrid", tmp_path).context()).sample().values

    assert {name: value for name, value in values.items() if name.endswith("celsius")} == {
        "host.thermal.x86_pkg_temp-0.celsius": 67,
        "host.thermal.acpitz-0.celsius": 27.8,
        "host.thermal.nct6798-0.celsius": 36.5,  # 127 and -62 are sensors that are not connected
        "host.thermal.int3400_thermal-0.celsius": 20,
        "host.thermal.cpu.celsius": 67,
        "host.thermal.max.celsius": 67,
    }


def test_sleeping_disks_are_not_asked(tmp_path: Path) -> None:
    host = take("amd-128c", tmp_path)
    asked: list[str] = []

    class Watched(Kernel):
        def text(self, name: str) -> str | None:
            asked.append(name)
            return super().text(name)

    ThermalCollector(host.context(kernel=Watched(str(host.root)))).sample()

    assert not [name for name in asked if "hwmon22/temp" in name and name.endswith("input")]


def test_sensor_that_fails_is_a_problem_of_its_own(tmp_path: Path) -> None:
    host = take("slurm-v1", tmp_path)
    broken = "sys/class/hwmon/hwmon0/temp8_input"

    class Failing(Kernel):
        def text(self, name: str) -> str | None:
            if name == broken:
                raise OSError(5, "Input/output error")
            return super().text(name)

    reading = ThermalCollector(host.context(kernel=Failing(str(host.root)))).sample()

    assert reading.values["host.thermal.coretemp-0.celsius"] == 56
    assert reading.problems == (f"{broken}: Input/output error",)


def test_chip_that_goes_vanishes_and_one_that_comes_shows_after_the_next_look(tmp_path: Path) -> None:
    host = take("slurm-v1", tmp_path)
    collector = ThermalCollector(host.context())
    collector.sample()
    host.remove("sys/class/hwmon/hwmon0")
    host.write("sys/class/hwmon/hwmon1/name", "nvme\n")
    host.write("sys/class/hwmon/hwmon1/temp1_input", "30000\n")
    host.advance(10)
    assert not [name for name in collector.sample().values if name.endswith("celsius")]

    host.advance(RESCAN_S)

    assert collector.sample().values["host.thermal.nvme-0.celsius"] == 30


def test_throttling_is_counted_once_for_each_core_and_package(tmp_path: Path) -> None:
    host = take("intel-2s", tmp_path)
    collector = ThermalCollector(host.context())
    collector.sample()
    # cpu0 and cpu32 are threads of one core, cpu0 to cpu15 are cores of one package.
    for cpu in (0, 32):
        host.add(f"{THROTTLE.format(cpu)}/core_throttle_count", 20)
    for cpu in range(16):
        host.add(f"{THROTTLE.format(cpu)}/package_throttle_count", 50)
        host.add(f"{THROTTLE.format(cpu)}/package_throttle_total_time_ms", 2500)
    host.advance(10)

    values = collector.sample().values

    assert values["host.thermal.core_throttles_per_s"] == 2
    assert values["host.thermal.package_throttles_per_s"] == 5
    assert values["host.thermal.throttled.percent"] == 25


def test_processors_without_throttle_counters_have_no_such_values(tmp_path: Path) -> None:
    host = take("amd-128c", tmp_path)
    collector = ThermalCollector(host.context())
    collector.sample()
    host.advance(10)

    assert not [name for name in collector.sample().values if "throttle" in name]


def test_power_is_the_growth_of_energy(tmp_path: Path) -> None:
    host = take("intel-2s", tmp_path)
    collector = PowerCollector(host.context())
    assert collector.sample().values == {"host.power.system.watts": 612}
    for zone, joules in (("0", 20), ("1", 30), ("0:0", 5), ("1:0", 7)):
        host.add(f"{RAPL}/intel-rapl:{zone}/energy_uj", joules * 1_000_000)
    host.add(f"{RAPL}/intel-rapl-mmio:0/energy_uj", 999_000_000)
    host.advance(10)

    assert collector.sample().values == {
        "host.power.package-0.watts": 2,
        "host.power.package-1.watts": 3,
        "host.power.dram-0.watts": 0.5,
        "host.power.dram-1.watts": 0.7,
        "host.power.cpu.watts": 5,
        "host.power.dram.watts": 1.2,
        "host.power.system.watts": 612,
    }


def test_counter_that_wraps_goes_on(tmp_path: Path) -> None:
    host = take("intel-2s", tmp_path)
    collector = PowerCollector(host.context())
    collector.sample()
    left = 262143328850 - 262100000000
    host.write(f"{RAPL}/intel-rapl:0/energy_uj", f"{2_000_000_000 - left}\n")
    host.advance(10)

    assert collector.sample().values["host.power.package-0.watts"] == pytest.approx(200)


def test_counter_that_was_set_back_gives_no_power_and_no_sum(tmp_path: Path) -> None:
    host = take("intel-2s", tmp_path)
    host.write(f"{RAPL}/intel-rapl:0/energy_uj", "100000000000\n")
    collector = PowerCollector(host.context())
    collector.sample()
    host.write(f"{RAPL}/intel-rapl:0/energy_uj", "5\n")
    host.advance(10)

    values = collector.sample().values

    assert "host.power.package-0.watts" not in values
    assert "host.power.cpu.watts" not in values
    assert values["host.power.package-1.watts"] == 0


def test_platform_counts_apart_and_parts_of_a_package_not_at_all(tmp_path: Path) -> None:
    host = take("hybrid", tmp_path)
    collector = PowerCollector(host.context())
    collector.sample()
    for zone, joules in (("0", 300), ("0:0", 200), ("0:1", 20), ("1", 500)):
        host.add(f"{RAPL}/intel-rapl:{zone}/energy_uj", joules * 1_000_000)
    host.advance(10)

    assert collector.sample().values == {
        "host.power.package-0.watts": 30,
        "host.power.cpu.watts": 30,
        "host.power.platform.watts": 50,
    }


def test_energy_that_only_root_may_read_is_not_available(tmp_path: Path) -> None:
    with pytest.raises(NothingHere, match="not for us"):
        PowerCollector(take("amd-128c", tmp_path).context()).sample()


def test_machine_without_rapl_has_nothing_here(tmp_path: Path) -> None:
    with pytest.raises(NothingHere, match="no energy counters"):
        PowerCollector(take("container", tmp_path).context()).sample()


@given(
    start=st.integers(0, 10**12),
    watts=st.floats(0, WATTS_MAX * 0.99),
    seconds=st.floats(0.1, 600),
    range_uj=st.sampled_from([65_532_610_987, 262_143_328_850]),
)
def test_power_is_right_or_not_told_whatever_the_counter_does(
    start: int, watts: float, seconds: float, range_uj: int
) -> None:
    old = start % range_uj
    new = (old + round(watts * seconds * 1e6)) % range_uj

    told = watts_between(old, new, seconds, range_uj)

    if seconds * WATTS_MAX < range_uj / 1e6:
        assert told == pytest.approx(watts, abs=1e-3)
    else:
        assert told is None


def test_power_without_time_or_range() -> None:
    assert watts_between(0, 10, 0, 1000) is None
    assert watts_between(10, 5, 1, None) is None
    assert watts_between(0, 5_000_000, 1, None) == 5


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("kind", [ThermalCollector, PowerCollector])
def test_values_have_names_of_the_table_on_every_machine(
    tmp_path: Path, kind: type[Collector], machine: str
) -> None:
    host = take(machine, tmp_path)
    collector = kind(host.context())
    declared = {metric.name for metric in kind.metrics}
    try:
        collector.sample()
        host.advance(10)
        values = collector.sample().values
    except NothingHere:
        return

    def general(name: str) -> str:
        return ".".join("#" if "-" in part else part for part in name.split("."))

    assert {general(name) for name in values} <= declared
