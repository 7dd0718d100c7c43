"""The collectors nfs and lustre, on machines made of files."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.fixture_host import MACHINES, FixtureHost
from tests.support.metric_table import undeclared
from tracker_agent.collectors.collector import Collector, NothingHere
from tracker_agent.collectors.devices import DeviceSettings
from tracker_agent.collectors.lustre import LustreCollector, parse_llite
from tracker_agent.collectors.nfs import NfsCollector, parse_mountstats

STATS = "proc/self/mountstats"
LLITE = "proc/fs/lustre/llite/scratch-ffff88085d5a8000/stats"
#: What the share and the part of it that is mounted again say of reading and writing; both are one.
READ = "READ: 1000 1010 2 128000 104857600 500 2000 2600 0"
BYTES = "bytes:\t1000 2000 30 40 100000 200000 50 60"


def take(machine: str, tmp_path: Path) -> FixtureHost:
    return FixtureHost(machine, tmp_path / "host")


def later(host: FixtureHost, collector: Collector, seconds: float = 10.0) -> dict[str, float]:
    host.advance(seconds)
    return dict(collector.sample().values)


def of_both(host: FixtureHost, old: str, new: str) -> None:
    text = host.read(STATS)
    assert text.count(old) == 2
    host.write(STATS, text.replace(old, new))


def test_requests_of_a_mount_and_how_long_they_took(tmp_path: Path) -> None:
    host = take("intel-2s", tmp_path)
    collector = NfsCollector(host.context())
    assert collector.sample().values == {}
    # 40 more reads, of which 3 were sent again and 1 timed out; 80 ms on the way, 120 ms in all.
    of_both(host, READ, "READ: 1040 1053 3 128000 104857600 500 2080 2720 0")
    of_both(host, BYTES, "bytes:\t1000 2000 30 40 150000 260000 50 60")

    values = later(host, collector)

    share = {name.rpartition("nfs_share.")[2]: value for name, value in values.items() if "share" in name}
    assert share == {
        "read.bytes_per_s": 5000,
        "written.bytes_per_s": 6000,
        "ops_per_s": 4,
        "retransmits_per_s": pytest.approx(0.3),
        "timeouts_per_s": pytest.approx(0.1),
        "rtt.seconds": pytest.approx(0.002),
        "exe.seconds": pytest.approx(0.003),
    }


def test_share_that_is_mounted_twice_counts_once(tmp_path: Path) -> None:
    host = take("intel-2s", tmp_path)
    collector = NfsCollector(host.context())
    collector.sample()
    of_both(host, BYTES, "bytes:\t1000 2000 30 40 150000 260000 50 60")

    values = later(host, collector)

    assert values["host.nfs.read.bytes_per_s"] == 5000
    assert sorted(name for name in values if name.endswith(".ops_per_s")) == [
        "host.nfs.mnt_images.ops_per_s",
        "host.nfs.mnt_nfs_share.ops_per_s",
        "host.nfs.ops_per_s",
    ]


def test_mount_without_requests_has_no_times(tmp_path: Path) -> None:
    host = take("intel-2s", tmp_path)
    collector = NfsCollector(host.context())
    collector.sample()

    values = later(host, collector)

    assert values["host.nfs.mnt_images.ops_per_s"] == 0
    assert "host.nfs.mnt_images.rtt.seconds" not in values


def test_share_that_was_mounted_anew_gives_no_value_for_that_interval(tmp_path: Path) -> None:
    host = take("intel-2s", tmp_path)
    collector = NfsCollector(host.context())
    collector.sample()
    host.replace(STATS, "READ: 100 100 0 12800 5000 5 200 210", "READ: 1 1 0 128 50 5 2 2")

    values = later(host, collector)

    assert not [name for name in values if "mnt_images" in name]
    assert values["host.nfs.ops_per_s"] == 0


def test_only_the_busiest_mounts_are_named(tmp_path: Path) -> None:
    host = take("intel-2s", tmp_path)
    collector = NfsCollector(host.context(settings=DeviceSettings(devices_max=1)))
    collector.sample()

    values = later(host, collector)

    assert not [name for name in values if "mnt_images" in name]
    assert "host.nfs.ops_per_s" in values


def test_machine_without_nfs_has_nothing_here(tmp_path: Path) -> None:
    with pytest.raises(NothingHere):
        NfsCollector(take("hybrid", tmp_path).context()).sample()


@given(st.text())
def test_any_text_is_read_without_a_failure_where_it_is_no_mount(text: str) -> None:
    assert parse_mountstats([line for line in text.splitlines() if "device" not in line]) == {}


def test_this_machines_mounts_are_read_without_a_failure() -> None:
    try:
        reading = NfsCollector().sample()
    except NothingHere:
        return
    assert reading.values == {}


def test_lustre_rates_by_file_system(tmp_path: Path) -> None:
    host = take("slurm-v1", tmp_path)
    collector = LustreCollector(host.context())
    assert collector.sample().values == {}
    host.replace(LLITE, "1000000\n", "1500000\n")
    host.replace(LLITE, "2000000 ", "2600000 ")
    host.replace(LLITE, "close                     40", "close                     60")

    values = later(host, collector)

    expected = {"read.bytes_per_s": 50_000, "written.bytes_per_s": 60_000, "ops_per_s": 2}
    assert values == {
        **{f"host.lustre.{name}": value for name, value in expected.items()},
        **{f"host.lustre.scratch.{name}": value for name, value in expected.items()},
    }


def test_two_mounts_of_one_lustre_keep_their_addresses(tmp_path: Path) -> None:
    host = take("slurm-v1", tmp_path)
    host.write("proc/fs/lustre/llite/scratch-ffff88085d5a9000/stats", host.read(LLITE))
    collector = LustreCollector(host.context())
    collector.sample()

    values = later(host, collector)

    assert {name.split(".")[2] for name in values if name.count(".") == 3 and name.endswith("ops_per_s")} == {
        "scratch-ffff88085d5a8000",
        "scratch-ffff88085d5a9000",
    }


def test_lustre_in_debugfs_is_found(tmp_path: Path) -> None:
    host = take("hybrid", tmp_path)
    host.write("sys/kernel/debug/lustre/llite/home-ffff9/stats", "snapshot_time 1.0 secs.usecs\n")
    collector = LustreCollector(host.context())
    collector.sample()

    assert later(host, collector)["host.lustre.read.bytes_per_s"] == 0


def test_newer_lustre_counts_operations_in_microseconds() -> None:
    lines = [
        "snapshot_time 1.0 secs.nsecs",
        "read_bytes 2 samples [bytes] 1 10 15",
        "read 2 samples [usec] 1 5 6 26",
        "open 3 samples [usec] 1 5 9 30",
        "getattr 4 samples [regs]",
    ]

    assert parse_llite(lines) == {"read": 15, "written": 0, "ops": 7}


@pytest.mark.parametrize("kind", [NfsCollector, LustreCollector])
@pytest.mark.parametrize("machine", MACHINES)
def test_machines_bring_only_what_the_table_says(kind: type[Collector], machine: str, tmp_path: Path) -> None:
    host = take(machine, tmp_path)
    collector = kind(host.context())
    try:
        collector.sample()
    except NothingHere:
        assert machine not in ({"intel-2s"} if kind is NfsCollector else {"intel-2s", "slurm-v1"})
        return

    values = later(host, collector)

    assert values
    assert undeclared(kind, values) == []
