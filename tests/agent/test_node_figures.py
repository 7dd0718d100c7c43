"""The kernel's figures under node_exporter's names, on machines made of files."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.fixture_host import FixtureHost
from tracker_agent.collectors.kernel import Kernel
from tracker_agent.node_figures import DEVICES_MAX, NodeFigures


def of(families: Any) -> dict[str, float]:
    """Return every sample of metric families as name{label=value} → value."""
    found: dict[str, float] = {}
    for family in families:
        for sample in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
            name = f"{sample.name}{{{labels}}}" if labels else sample.name
            assert name not in found, f"{name} twice"
            found[name] = sample.value
    return found


def node(host: FixtureHost | Kernel, **more: Any) -> dict[str, float]:
    kernel = host if isinstance(host, Kernel) else host.kernel
    figures, well = NodeFigures(kernel, **more).read()
    assert all(well.values()), well
    return of(figures)


@pytest.fixture
def host(tmp_path: Path) -> FixtureHost:
    return FixtureHost("intel-2s", tmp_path / "host")


STAT = """\
cpu  300 30 60 3000 12 6 9 3 5 1
cpu0 100 10 20 1000 4 2 3 1 5 0
cpu1 200 20 40 2000 8 4 6 2 0 1
intr 4242 1 2 3
ctxt 987654
btime 1700000000
processes 1234
procs_running 3
procs_blocked 2
softirq 5 1 1
"""


def test_processor_times_are_the_kernels_totals_in_seconds(host: FixtureHost) -> None:
    host.write("proc/stat", STAT)

    found = node(host)

    assert found["node_cpu_seconds_total{cpu=0,mode=user}"] == 1.0
    assert found["node_cpu_seconds_total{cpu=1,mode=idle}"] == 20.0
    assert found["node_cpu_seconds_total{cpu=1,mode=steal}"] == 0.02
    assert found["node_cpu_guest_seconds_total{cpu=0,mode=user}"] == 0.05
    assert found["node_cpu_guest_seconds_total{cpu=1,mode=nice}"] == 0.01
    assert "node_cpu_seconds_total{cpu=all,mode=user}" not in found
    assert found["node_intr_total"] == 4242
    assert found["node_context_switches_total"] == 987654
    assert found["node_forks_total"] == 1234
    assert found["node_boot_time_seconds"] == 1700000000
    assert (found["node_procs_running"], found["node_procs_blocked"]) == (3, 2)


def test_cores_may_be_told_all_together(tmp_path: Path) -> None:
    found = node(FixtureHost("amd-128c", tmp_path / "many"), per_core=False)
    each = node(FixtureHost("amd-128c", tmp_path / "each"))

    assert sum(name.startswith("node_cpu_seconds_total") for name in found) == 8
    assert found["node_cpu_seconds_total{cpu=all,mode=user}"] > 0
    assert sum(name.startswith("node_cpu_seconds_total") for name in each) == 8 * 128


def test_processor_time_that_the_kernel_takes_back_does_not_go_back_here(host: FixtureHost) -> None:
    figures = NodeFigures(host.kernel)
    host.write("proc/stat", STAT)
    figures.read()
    host.write("proc/stat", STAT.replace("1000 4 2", "990 3 2").replace("cpu0 100", "cpu0 150"))

    found = of(figures.read()[0])

    assert found["node_cpu_seconds_total{cpu=0,mode=idle}"] == 10.0
    assert found["node_cpu_seconds_total{cpu=0,mode=iowait}"] == 0.04
    assert found["node_cpu_seconds_total{cpu=0,mode=user}"] == 1.5


def test_core_that_was_away_begins_again(host: FixtureHost) -> None:
    figures = NodeFigures(host.kernel)
    host.write("proc/stat", STAT)
    figures.read()
    host.write("proc/stat", STAT.replace("cpu1 200 20 40 2000", "cpu1 1 0 1 7"))

    found = of(figures.read()[0])

    assert found["node_cpu_seconds_total{cpu=1,mode=idle}"] == 0.07
    assert found["node_cpu_seconds_total{cpu=1,mode=user}"] == 0.01


@given(st.lists(st.lists(st.integers(0, 400), min_size=10, max_size=10), min_size=2, max_size=8))
def test_processor_times_grow_or_all_of_a_core_begin_again(rows: list[list[int]]) -> None:
    figures = NodeFigures(Kernel("/does/not/exist"))
    told: list[int] = []
    for row in rows:
        before, told = told, figures._grown(told, row)

        assert told == row or all(new >= old for new, old in zip(told, before, strict=True))


def test_memory_has_a_figure_for_each_line(host: FixtureHost) -> None:
    host.write(
        "proc/meminfo", "MemTotal:  100 kB\nActive(anon):  7 kB\nHugePages_Total:  4\nHugepagesize: 2048 kB\n"
    )

    found = {name: value for name, value in node(host).items() if name.startswith("node_memory")}

    assert found == {
        "node_memory_MemTotal_bytes": 102400,
        "node_memory_Active_anon_bytes": 7168,
        "node_memory_HugePages_Total": 4,
        "node_memory_Hugepagesize_bytes": 2097152,
    }


DISKSTATS = """\
 259 0 nvme0n1 10 1 100 20 30 2 200 40 5 60 70 8 1 300 9 11 12
 259 1 nvme0n1p1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1
   8 0 sda 10 1 100 20 30 2 200 40 5 60 70
   8 1 sda1 1 1 1 1 1 1 1 1 1 1 1
   7 0 loop0 1 1 1 1 1 1 1 1 1 1 1
 253 0 dm-0 3 0 8 1 0 0 0 0 0 1 1 0 0 0 0 0 0
"""


def test_disks_have_bytes_and_seconds_and_old_kernels_fewer_figures(host: FixtureHost) -> None:
    host.write("proc/diskstats", DISKSTATS)

    found = node(host)

    disks = {re.findall("device=([^}]*)", name)[0] for name in found if name.startswith("node_disk_")}
    assert disks == {"nvme0n1", "sda", "dm-0"}
    new = {
        name.removeprefix("node_disk_").removesuffix("{device=nvme0n1}"): value
        for name, value in found.items()
        if "device=nvme0n1}" in name
    }
    assert new == {
        "reads_completed_total": 10,
        "reads_merged_total": 1,
        "read_bytes_total": 51200,
        "read_time_seconds_total": 0.02,
        "writes_completed_total": 30,
        "writes_merged_total": 2,
        "written_bytes_total": 102400,
        "write_time_seconds_total": 0.04,
        "io_now": 5,
        "io_time_seconds_total": 0.06,
        "io_time_weighted_seconds_total": 0.07,
        "discards_completed_total": 8,
        "discards_merged_total": 1,
        "discarded_sectors_total": 300,
        "discard_time_seconds_total": pytest.approx(0.009),
        "flush_requests_total": 11,
        "flush_requests_time_seconds_total": 0.012,
    }
    assert "node_disk_io_time_weighted_seconds_total{device=sda}" in found
    assert "node_disk_discards_completed_total{device=sda}" not in found


def test_interfaces_are_told_but_for_the_ends_of_containers(host: FixtureHost) -> None:
    host.write(
        "proc/net/dev",
        "Inter-| Receive\n face |bytes\n"
        "  eth0: 1 2 3 4 5 6 7 8 11 12 13 14 15 16 17 18\n"
        "veth1a2: 1 2 3 4 5 6 7 8 11 12 13 14 15 16 17 18\n"
        "    lo:9 2 3 4 5 6 7 8 11 12 13 14 15 16 17 18\n",
    )
    host.write("sys/class/net/eth0/operstate", "up\n")
    host.write("sys/class/net/lo/operstate", "unknown\n")

    found = node(host)

    assert found["node_network_receive_bytes_total{device=eth0}"] == 1
    assert found["node_network_receive_drop_total{device=eth0}"] == 4
    assert found["node_network_receive_multicast_total{device=eth0}"] == 8
    assert found["node_network_transmit_bytes_total{device=eth0}"] == 11
    assert found["node_network_transmit_carrier_total{device=eth0}"] == 17
    assert found["node_network_receive_bytes_total{device=lo}"] == 9
    assert found["node_network_up{device=eth0}"] == 1
    assert found["node_network_up{device=lo}"] == 0
    assert not any("veth" in name for name in found)


def test_number_of_devices_is_bounded(host: FixtureHost) -> None:
    row = " ".join(["1"] * 16)
    host.write("proc/net/dev", "\n\n" + "".join(f"eth{n}: {row}\n" for n in range(500)))
    host.write("proc/diskstats", "".join(f"8 {n} dm-{n} {row}\n" for n in range(500)))

    found = node(host)

    for name in ("node_network_receive_bytes_total", "node_disk_io_now"):
        assert sum(each.startswith(name) for each in found) == DEVICES_MAX


def test_pressure_paging_protocols_sockets_and_files_are_told(host: FixtureHost) -> None:
    host.write("proc/pressure/memory", "some avg10=0.00 total=1500000\nfull avg10=0.00 total=500000\n")
    host.write("proc/pressure/cpu", "some avg10=0.00 total=2500000\nfull avg10=0.00 total=0\n")
    host.write("proc/vmstat", "nr_free_pages 5\npgfault 6\npgmajfault 7\noom_kill 1\npgpgin 8\npswpout 9\n")
    host.write("proc/net/snmp", "Tcp: RtoMin RetransSegs\nTcp: 200 33\nUdp: NoPorts\nUdp: 4\n")
    host.write("proc/net/netstat", "TcpExt: ListenDrops TCPTimeouts Other\nTcpExt: 1 2 3\n")
    host.write("proc/net/snmp6", "Ip6InOctets 44\nIp6InDelivers 1\nUdp6InErrors 5\n")
    host.write("proc/net/sockstat", "sockets: used 290\nTCP: inuse 7 orphan 0 tw 2 alloc 9 mem 1\n")
    host.write("proc/sys/fs/file-nr", "1888\t0\t9223372036854775807\n")

    found = node(host)

    assert found["node_pressure_memory_waiting_seconds_total"] == 1.5
    assert found["node_pressure_memory_stalled_seconds_total"] == 0.5
    assert found["node_pressure_cpu_waiting_seconds_total"] == 2.5
    assert "node_pressure_cpu_stalled_seconds_total" not in found
    vmstat = {name for name in found if name.startswith("node_vmstat")}
    assert vmstat == {
        f"node_vmstat_{name}" for name in ("pgfault", "pgmajfault", "oom_kill", "pgpgin", "pswpout")
    }
    assert {name: value for name, value in found.items() if name.startswith("node_netstat")} == {
        "node_netstat_Tcp_RetransSegs": 33,
        "node_netstat_Udp_NoPorts": 4,
        "node_netstat_TcpExt_ListenDrops": 1,
        "node_netstat_TcpExt_TCPTimeouts": 2,
        "node_netstat_Ip6_InOctets": 44,
        "node_netstat_Udp6_InErrors": 5,
    }
    assert found["node_sockstat_sockets_used"] == 290
    assert found["node_sockstat_TCP_tw"] == 2
    assert found["node_filefd_allocated"] == 1888


def test_file_of_a_form_nobody_has_seen_costs_its_own_figures(host: FixtureHost) -> None:
    host.write("proc/meminfo", "MemTotal: many kB\n")
    host.write("proc/loadavg", "0.5 0.25 0.125 1/2 3\n")

    figures, well = NodeFigures(host.kernel).read()

    assert [part for part, is_well in well.items() if not is_well] == ["memory"]
    assert of(figures)["node_load15"] == 0.125
