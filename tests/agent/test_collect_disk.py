"""The collector disk, on machines made of files and on this one, and the counters of devices."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support import require
from tests.support.agent_process import wait_until
from tests.support.fixture_host import MACHINES, FixtureHost
from tests.support.metric_table import undeclared
from tracker_agent.collectors.collector import NothingHere
from tracker_agent.collectors.devices import DeviceGrowth, DeviceSettings, MetricNames
from tracker_agent.collectors.disk import DiskCollector

#: Columns of /proc/diskstats, as FixtureHost counts those behind a row's first word.
READS, SECTORS_READ, READ_MS, WRITES, SECTORS_WRITTEN, WRITE_MS, BUSY_MS, QUEUE_MS = 3, 5, 6, 7, 9, 10, 12, 13


def take(machine: str, tmp_path: Path) -> FixtureHost:
    return FixtureHost(machine, tmp_path / "host")


def grow(host: FixtureHost, disk: str, **growth: int) -> None:
    lines = []
    for line in host.read("proc/diskstats").splitlines():
        words = line.split()
        if words[2] == disk:
            for name, more in growth.items():
                column = globals()[name.upper()]
                words[column] = str(int(words[column]) + more)
        lines.append(" ".join(words))
    host.write("proc/diskstats", "\n".join(lines) + "\n")


def second_sample(host: FixtureHost, collector: DiskCollector, seconds: float = 2.0) -> dict[str, float]:
    host.advance(seconds)
    return dict(collector.sample().values)


def begun(host: FixtureHost) -> DiskCollector:
    collector = DiskCollector(host.context())
    assert collector.sample().values == {}
    return collector


def test_rates_waiting_and_load_of_one_disk(tmp_path: Path) -> None:
    host = take("hybrid", tmp_path)
    collector = begun(host)
    grow(host, "nvme0n1", reads=100, sectors_read=4000, read_ms=50, writes=300, sectors_written=8000)
    grow(host, "nvme0n1", write_ms=350, busy_ms=500, queue_ms=3000)

    values = second_sample(host, collector)

    own = {name.removeprefix("host.disk.nvme0n1."): value for name, value in values.items() if "nvme" in name}
    assert own == {
        "read.bytes_per_s": 4000 * 512 / 2,
        "written.bytes_per_s": 8000 * 512 / 2,
        "reads_per_s": 50,
        "writes_per_s": 150,
        "busy.percent": 25,
        "queue.count": 1.5,
        "wait.seconds": pytest.approx(0.001),
    }
    assert values["host.disk.busy_max.percent"] == 25
    assert values["host.disk.wait_max.seconds"] == pytest.approx(0.001)


def test_partitions_and_disks_made_of_disks_do_not_count_again(tmp_path: Path) -> None:
    host = take("intel-2s", tmp_path)
    collector = begun(host)
    for disk in ("sda", "sda1", "dm-0", "md127", "loop0", "zram0"):
        grow(host, disk, sectors_read=1000)

    values = second_sample(host, collector)

    assert values["host.disk.read.bytes_per_s"] == 1000 * 512 / 2
    assert {name.split(".")[2] for name in values if name.count(".") > 3} == {
        "sda",
        "nvme2n1",
        "nvme0c0n1",
        "nvme0c1n1",
    }


def test_kernel_that_counts_at_paths_only_is_read_at_the_paths(tmp_path: Path) -> None:
    host = take("intel-2s", tmp_path)
    collector = begun(host)
    grow(host, "nvme0c0n1", sectors_written=100)
    grow(host, "nvme0c1n1", sectors_written=300)

    assert second_sample(host, collector)["host.disk.written.bytes_per_s"] == 400 * 512 / 2


def test_kernel_that_counts_at_disk_and_path_is_counted_once(tmp_path: Path) -> None:
    host = take("amd-128c", tmp_path)
    collector = begun(host)
    for disk in ("nvme0n1", "nvme0c0n1", "nvme0n1p1"):
        grow(host, disk, sectors_written=100)

    values = second_sample(host, collector)

    assert values["host.disk.written.bytes_per_s"] == 100 * 512 / 2
    assert values["host.disk.nvme0n1.written.bytes_per_s"] == 100 * 512 / 2
    assert "host.disk.nvme0c0n1.written.bytes_per_s" not in values


def test_network_block_device_counts(tmp_path: Path) -> None:
    host = take("hybrid", tmp_path)
    collector = begun(host)
    grow(host, "nbd0", sectors_read=10)

    assert second_sample(host, collector)["host.disk.nbd0.read.bytes_per_s"] == 10 * 512 / 2


def test_name_with_a_slash_is_found_and_made_safe(tmp_path: Path) -> None:
    host = take("slurm-v1", tmp_path)
    collector = begun(host)
    grow(host, "cciss/c0d0", sectors_read=10)

    assert second_sample(host, collector)["host.disk.cciss_c0d0.read.bytes_per_s"] == 10 * 512 / 2


def test_only_the_disks_that_did_most_have_values_of_their_own(tmp_path: Path) -> None:
    host = take("amd-128c", tmp_path)
    collector = begun(host)
    grow(host, "nvme1n1", sectors_read=100)

    values = second_sample(host, collector)

    named = {name.split(".")[2] for name in values if name.count(".") > 3}
    assert len(named) == 16
    assert "nvme0n1" in named
    assert "nvme1n1" not in named
    assert values["host.disk.read.bytes_per_s"] == 100 * 512 / 2


def test_setting_says_how_many_disks_have_values_of_their_own(tmp_path: Path) -> None:
    host = take("amd-128c", tmp_path)
    collector = DiskCollector(host.context(settings=DeviceSettings(devices_max=1)))
    collector.sample()

    values = second_sample(host, collector)

    assert {name.split(".")[2] for name in values if name.count(".") > 3} == {"nvme0n1"}


def test_disk_without_requests_has_no_waiting_time(tmp_path: Path) -> None:
    host = take("hybrid", tmp_path)
    collector = begun(host)

    values = second_sample(host, collector)

    assert values["host.disk.nvme0n1.busy.percent"] == 0
    assert "host.disk.nvme0n1.wait.seconds" not in values
    assert "host.disk.wait_max.seconds" not in values


def test_disk_that_began_anew_gives_no_value_for_that_interval(tmp_path: Path) -> None:
    host = take("hybrid", tmp_path)
    collector = begun(host)
    # The driver was loaded again: some counters are lower than before, one is already higher.
    grow(host, "nvme0n1", reads=-2990, sectors_read=10**6)
    grow(host, "nbd0", sectors_read=8)

    values = second_sample(host, collector)

    assert "host.disk.nvme0n1.read.bytes_per_s" not in values
    assert values["host.disk.read.bytes_per_s"] == 8 * 512 / 2


def test_disk_that_appears_and_one_that_is_pulled_out(tmp_path: Path) -> None:
    host = take("hybrid", tmp_path)
    collector = begun(host)
    (host.root / "sys/block/sdz").symlink_to("../devices/pci0000:00/usb/block/sdz")
    host.write("proc/diskstats", "8 400 sdz 1 0 10000000 1 0 0 0 0 0 1 1 0 0 0 0\n")

    first, second = second_sample(host, collector), None
    grow(host, "sdz", sectors_read=4)
    second = second_sample(host, collector)

    assert first == {}
    assert second["host.disk.read.bytes_per_s"] == 4 * 512 / 2
    assert not [name for name in second if "nvme" in name]


def test_busy_time_is_never_more_than_all_of_it(tmp_path: Path) -> None:
    host = take("hybrid", tmp_path)
    collector = begun(host)
    grow(host, "nvme0n1", busy_ms=2004)

    assert second_sample(host, collector)["host.disk.nvme0n1.busy.percent"] == 100


@pytest.mark.parametrize("machine", MACHINES)
def test_machines_bring_only_what_the_table_says(machine: str, tmp_path: Path) -> None:
    host = take(machine, tmp_path)
    collector = DiskCollector(host.context())
    if machine in ("container", "empty"):
        with pytest.raises(NothingHere):
            collector.sample()
        return
    collector.sample()

    values = second_sample(host, collector)

    assert values
    assert undeclared(DiskCollector, values) == []


def test_what_is_written_on_this_machine_shows(tmp_path: Path) -> None:
    if os.major(os.stat(tmp_path).st_dev) == 0:
        require.absent("a disk", f"{tmp_path} is on none", "TMPDIR on a disk")
    collector = DiskCollector()
    collector.sample()
    file = tmp_path / "data"

    def written() -> bool:
        with file.open("wb") as output:
            output.write(bytes(8 * 2**20))
            output.flush()
            os.fsync(output.fileno())
        values = collector.sample().values
        assert undeclared(DiskCollector, values) == []
        return values.get("host.disk.written.bytes_per_s", 0) > 0

    wait_until(written, what="bytes written")


# Counters of devices, in general.

DEVICES = st.sampled_from(["a", "b", "c"])
STEP = st.dictionaries(
    DEVICES, st.fixed_dictionaries({"x": st.integers(0, 2**33), "y": st.integers(0, 100)}), max_size=3
)


@given(st.lists(st.tuples(STEP, st.floats(0.01, 100)), min_size=1, max_size=8))
def test_growth_is_that_of_devices_that_only_counted_up(
    steps: list[tuple[dict[str, dict[str, int]], float]],
) -> None:
    growth, now, before = DeviceGrowth(), 0.0, None
    for counters, seconds in steps:
        now += seconds
        interval = growth.since(counters, now)

        if before is None:
            assert interval is None
        else:
            assert interval is not None
            for device, values in counters.items():
                went_on = device in before and all(values[each] >= before[device][each] for each in values)
                assert (device in interval.grown) == went_on
                if went_on:
                    rate = interval.per_second(device, "x")
                    assert rate is not None
                    assert rate * interval.seconds == pytest.approx(values["x"] - before[device]["x"])
            assert set(interval.grown) <= set(counters)
            total = interval.total_per_second("x", counters)
            known = [interval.per_second(device, "x") for device in interval.grown]
            assert (total is None) == (not known)
            if total is not None:
                assert total == pytest.approx(sum(rate or 0.0 for rate in known))
        before = counters


def test_clock_that_stood_still_gives_no_rate() -> None:
    growth = DeviceGrowth()
    growth.since({"a": {"x": 1}}, 5.0)

    assert growth.since({"a": {"x": 9}}, 5.0) is None


def test_counter_that_is_new_on_a_device_waits_for_the_next_interval() -> None:
    growth = DeviceGrowth()
    growth.since({"a": {"x": 1}}, 0.0)

    interval = growth.since({"a": {"x": 3, "y": 10**9}}, 2.0)

    assert interval is not None
    assert interval.per_second("a", "x") == 1
    assert interval.per_second("a", "y") is None
    assert interval.total_per_second("y", ["a"]) is None


@given(st.lists(st.sets(st.text(alphabet="a/._: \n€", min_size=1, max_size=8), max_size=6), max_size=4))
def test_names_are_safe_and_each_one_devices_own(rounds: list[set[str]]) -> None:
    names = MetricNames()
    before: dict[str, str] = {}
    for devices in rounds:
        now = names.of(devices)

        assert set(now) == devices
        assert len(set(now.values())) == len(devices)
        for name in now.values():
            assert name
            assert set(name) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-")
        for device in devices & set(before):
            assert now[device] == before[device]
        before = now


def test_names_say_what_they_stand_for() -> None:
    assert MetricNames().of(["/", "/data/a", "eth0.100", "eth0_100", "/mnt/my disk"]) == {
        "/": "root",
        "/data/a": "data_a",
        "eth0.100": "eth0_100",
        "eth0_100": "eth0_100_2",
        "/mnt/my disk": "mnt_my_disk",
    }
