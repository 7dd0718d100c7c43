"""The machine's figures for Prometheus: names, values, what a scrape survives, programs that read them."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import threading
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as strict_families
from prometheus_client.parser import text_string_to_metric_families

from tests.agent.test_metrics_endpoint import STATUS, values
from tests.support import require
from tests.support.agent_process import AgentProcess, wait_until
from tests.support.fixture_host import MACHINES, FixtureHost
from tracker_agent.collectors.chosen import COLLECTORS
from tracker_agent.collectors.collector import Event
from tracker_agent.collectors.kernel import Kernel
from tracker_agent.collectors.nvidia_metrics import METRICS as NVIDIA_METRICS
from tracker_agent.gpu_figures import _FIELDS, XID_SHOWN_S, gpu_figures
from tracker_agent.host_figures import _FILESYSTEM, Gauges, HostFigures, Sampled
from tracker_agent.node_figures import DEVICES_MAX, NodeFigures
from tracker_agent.sampler import LastReading
from tracker_agent.telemetry import Telemetry

NOW_NS = 10**18


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


def reading(values: dict[str, float], facts: dict[str, Any] | None = None) -> LastReading:
    return LastReading(values, 1.5, facts)


def host_figures(kernel: Kernel, sampled: Sampled | None = None) -> HostFigures:
    return HostFigures(NodeFigures(kernel), lambda: sampled or Sampled({}), "gpu-7", lambda: NOW_NS)


def scrape(telemetry: Telemetry, accept: str = "") -> str:
    return asyncio.run(telemetry.scrape(accept))[0].decode()


# ── node_exporter's names, from the kernel's files ──


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


@pytest.mark.parametrize("machine", MACHINES)
def test_every_machine_can_be_scraped_in_both_formats(machine: str, tmp_path: Path) -> None:
    telemetry = Telemetry(
        lambda: STATUS, host_figures(FixtureHost(machine, tmp_path / "host").kernel), host_wait_s=60
    )

    plain = values(scrape(telemetry))
    strict = of(strict_families(scrape(telemetry, "application/openmetrics-text;version=1.0.0")))  # type: ignore[no-untyped-call]

    assert plain["tracker_agent_host_read"] == 1
    # These are about the process that serves, and change from one moment to the next.
    changing = {name for name in plain if name.startswith("process_")}
    assert {name: value for name, value in plain.items() if name not in changing} == {
        name: value for name, value in strict.items() if name not in changing
    }


def test_file_of_a_form_nobody_has_seen_costs_its_own_figures(host: FixtureHost) -> None:
    host.write("proc/meminfo", "MemTotal: many kB\n")
    host.write("proc/loadavg", "0.5 0.25 0.125 1/2 3\n")

    figures, well = NodeFigures(host.kernel).read()

    assert [part for part, is_well in well.items() if not is_well] == ["memory"]
    assert of(figures)["node_load15"] == 0.125


# ── what a scrape survives ──


def test_scrape_does_not_wait_for_a_kernel_that_hangs_and_sends_no_second_thread(host: FixtureHost) -> None:
    # Opening a pipe that nobody writes to hangs, as a file of a container's /proc does whose daemon hangs.
    host.remove("proc/meminfo")
    pipe = host.root / "proc/meminfo"
    os.mkfifo(pipe)
    telemetry = Telemetry(lambda: STATUS, host_figures(host.kernel), host_wait_s=0.05)

    def threads() -> int:
        return sum(thread.name == "scrape" for thread in threading.enumerate())

    found = [values(scrape(telemetry)) for _ in range(3)]
    hanging = threads()
    with pipe.open("w") as writer:
        writer.write("MemTotal: 1 kB\n")
    wait_until(lambda: not threads(), what="the end of the thread that hung")
    host.remove("proc/meminfo")
    after = values(scrape(Telemetry(lambda: STATUS, host_figures(host.kernel), host_wait_s=60)))

    for each in found:
        assert each["tracker_agent_host_read"] == 0
        assert each["tracker_agent_shipped_bytes_total"] == 100
        assert not any(name.startswith("node_") for name in each)
    assert hanging == 1
    assert after["tracker_agent_host_read"] == 1


async def test_two_scrapes_at_once_are_both_answered(host: FixtureHost) -> None:
    telemetry = Telemetry(lambda: STATUS, host_figures(host.kernel), host_wait_s=60)

    both = await asyncio.gather(*(telemetry.scrape("") for _ in range(4)))

    assert all(b"tracker_agent_host_read 1.0" in body for body, _ in both)


def test_figures_of_the_machine_can_be_switched_off() -> None:
    found = values(scrape(Telemetry(lambda: STATUS)))

    assert not any(name.startswith(("node_", "tracker_host_", "DCGM_")) for name in found)
    assert "tracker_agent_host_read" not in found


# ── GPUs, by DCGM's names ──

GPUS = [
    {"index": 0, "uuid": "GPU-a", "name": "NVIDIA H100", "pci_bus_id": "00000000:01:00.0"},
    {"index": 1, "uuid": "GPU-b", "name": "NVIDIA H100", "pci_bus_id": "00000000:02:00.0"},
]
FIRST = "{Hostname=h,UUID=GPU-a,device=nvidia0,gpu=0,modelName=NVIDIA H100,pci_bus_id=00000000:01:00.0}"
SECOND = "{Hostname=h,UUID=GPU-b,device=nvidia1,gpu=1,modelName=NVIDIA H100,pci_bus_id=00000000:02:00.0}"


def test_gpus_have_dcgms_names_units_and_labels() -> None:
    found = of(
        gpu_figures(
            {
                "host.gpu.0.utilization.percent": 97,
                "host.gpu.0.memory.used.bytes": 2**30,
                "host.gpu.0.energy.joules": 12.5,
                "host.gpu.0.sm.active.percent": 40,
                "host.gpu.1.utilization.percent": 3,
                "host.gpu.11.utilization.percent": 4,
            },
            GPUS,
            "h",
        )
    )

    assert found == {
        f"DCGM_FI_DEV_GPU_UTIL{FIRST}": 97,
        f"DCGM_FI_DEV_GPU_UTIL{SECOND}": 3,
        f"DCGM_FI_DEV_FB_USED{FIRST}": 1024,
        f"DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION{FIRST}": 12500,
        f"DCGM_FI_PROF_SM_ACTIVE{FIRST}": 0.4,
        f"DCGM_FI_DEV_XID_ERRORS{FIRST}": 0,
        f"DCGM_FI_DEV_XID_ERRORS{SECOND}": 0,
    }


def test_what_dcgm_names_is_something_that_is_measured() -> None:
    measured = {metric.name for metric in NVIDIA_METRICS}

    assert {f"host.gpu.#.{field.metric}" for field in _FIELDS.values()} <= measured
    filesystem = {metric.name for metric in COLLECTORS["filesystem"].metrics}
    assert {f"host.filesystem.#.{ours}" for _, ours, _ in _FILESYSTEM} <= filesystem


def xid(number: int, gpu: str, before_s: float) -> Event:
    return Event(NOW_NS - int(before_s * 1e9), "Xid", "", "error", {"xid": number, "gpu": gpu})


def test_xid_shows_for_a_while_and_also_of_a_gpu_that_is_lost() -> None:
    events = [
        xid(31, "GPU-a", before_s=XID_SHOWN_S + 1),
        xid(48, "GPU-b", before_s=100),
        xid(79, "GPU-b", before_s=20),
        Event(NOW_NS, "disk", "", "info", {}),
    ]

    found = of(gpu_figures({"host.gpu.0.utilization.percent": 1}, GPUS, "h", events, NOW_NS))

    assert found[f"DCGM_FI_DEV_XID_ERRORS{FIRST}"] == 0
    assert found[f"DCGM_FI_DEV_XID_ERRORS{SECOND}"] == 79


# ── everything else ──


def test_values_become_gauges_with_labels_for_devices(host: FixtureHost) -> None:
    sampled = Sampled(
        {
            "disk": reading(
                {"host.disk.read.bytes_per_s": 5.0, "host.disk.nvme0n1.read.bytes_per_s": 4.0},
            ),
            "amd": reading({"host.gpu.3.power.watts": 70.0}),
            "filesystem": reading(
                {
                    "host.filesystem.data.total.bytes": 100.0,
                    "host.filesystem.data.available.bytes": 30.0,
                    "host.filesystem.data.read_only.count": 0.0,
                    "host.filesystem.data.inodes.percent": 7.0,
                },
                {
                    "filesystems": [
                        {"name": "data", "mount": "/data", "device": "/dev/sda1", "type": "ext4"},
                        {"name": "gone", "mount": "/gone", "device": "nas:/x", "type": "nfs4"},
                    ]
                },
            ),
            "openmetrics": reading({"host.scrape.app.x": 1.0}),
        }
    )

    found = of(host_figures(host.kernel, sampled).read(sampled))

    labels = "{device=/dev/sda1,fstype=ext4,mountpoint=/data}"
    assert found["tracker_host_disk_read_bytes_per_second"] == 5
    assert found["tracker_host_disk_device_read_bytes_per_second{disk=nvme0n1}"] == 4
    assert found["tracker_host_gpu_power_watts{gpu=3}"] == 70
    assert found["tracker_host_filesystem_inodes_percent{filesystem=data}"] == 7
    assert found[f"node_filesystem_size_bytes{labels}"] == 100
    assert found[f"node_filesystem_avail_bytes{labels}"] == 30
    assert found[f"node_filesystem_readonly{labels}"] == 0
    assert found["tracker_agent_collector_age_seconds{collector=disk}"] == 1.5
    assert not any("scrape" in name or "/gone" in name for name in found)


def all_values() -> dict[str, float]:
    """Return a value of every metric that any collector declares."""
    return {
        metric.name.replace("#", "7"): 1.0
        for name, kind in COLLECTORS.items()
        if name != "openmetrics"
        for metric in kind.metrics
    }


def test_every_metric_has_a_gauge_of_its_own() -> None:
    declared = [
        metric for name, kind in COLLECTORS.items() if name != "openmetrics" for metric in kind.metrics
    ]
    gauges = Gauges(declared)

    found = of(gauges.of(all_values()))

    assert len(found) == len(all_values())
    assert not any("#" in name for name in found)
    assert of(gauges.of({"host.unheard.of": 1.0})) == {}


# ── real programs ──

#: What promtool does not like about names that are others'; nothing else may be said.
OTHERS_NAMES = (
    re.compile(r"DCGM_FI_DEV_PCIE_REPLAY_COUNTER .* type 'counter'"),
    re.compile(r"DCGM_FI_DEV_ECC_\w+_TOTAL .*"),
    re.compile(r"(node_(memory|netstat|sockstat|vmstat)_|DCGM_FI_)\w+ .*(snake_case|camelCase)"),
    re.compile(r"node_network_\w+ .*"),
)


def test_promtool_finds_nothing_wrong_but_names_that_are_others(host: FixtureHost) -> None:
    promtool = require.program("promtool", "prometheus")
    gpus = [GPUS[0] | {"index": 7}]
    sampled = Sampled({"nvidia": reading(all_values(), {"gpus": gpus})})
    host.write("proc/stat", STAT)
    text = scrape(Telemetry(lambda: STATUS, host_figures(host.kernel, sampled), host_wait_s=60))

    done = subprocess.run(
        [promtool, "check", "metrics"], input=text, text=True, capture_output=True, check=False
    )

    said = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    assert [line for line in said if not any(each.match(line) for each in OTHERS_NAMES)] == []
    assert done.returncode in (0, 3)
    assert len(text.splitlines()) > 500


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return str(answer.read().decode())


@contextmanager
def program(*command: str, log: Path) -> Iterator[None]:
    """Run a program while the block lasts."""
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def answers(url: str) -> str:
    with suppress(OSError):
        return get(url)
    return ""


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a real agent's figures."""
    address = f"127.0.0.1:{free_port()}"
    config = f'[metrics]\nlisten = "{address}"\n[sampler]\ninterval_s = 0.5\n'
    root = tmp_path_factory.mktemp("agent")
    # Nobody listens there: a scrape does not need the server.
    with AgentProcess(root, "http://127.0.0.1:9", "k" * 40, extra_config=config):
        wait_until(
            lambda: "tracker_host_cpu_percent " in answers(f"http://{address}/metrics"), what="the agent"
        )
        yield address


def test_figures_of_the_machine_follow_the_settings_at_a_reload(tmp_path: Path) -> None:
    address = f"127.0.0.1:{free_port()}"
    config = f'[metrics]\nlisten = "{address}"\n'
    with AgentProcess(tmp_path, "http://127.0.0.1:9", "k" * 40, extra_config=config) as process:

        def found() -> dict[str, float]:
            return of_text(answers(f"http://{address}/metrics"))

        def reloaded(more: str, condition: Callable[[dict[str, float]], bool]) -> bool:
            process.config.write_text(process.config.read_text().replace(config, config + more))
            assert process.process is not None
            process.process.send_signal(signal.SIGHUP)
            return bool(wait_until(lambda: condition(found()), what=more))

        wait_until(
            lambda: "node_cpu_seconds_total{cpu=0,mode=idle}" in found(), what="figures of the machine"
        )

        assert reloaded("per_core = false\n", lambda now: "node_cpu_seconds_total{cpu=all,mode=idle}" in now)
        assert reloaded(
            'host = "off"\n', lambda now: "tracker_agent_ready" in now and "node_load1" not in now
        )


def test_real_prometheus_scrapes_the_agent_and_answers_queries(agent: str, tmp_path: Path) -> None:
    port = free_port()
    config = tmp_path / "prometheus.yml"
    config.write_text(
        "global: {scrape_interval: 1s, scrape_timeout: 1s}\n"
        f"scrape_configs: [{{job_name: tracker, static_configs: [{{targets: ['{agent}']}}]}}]\n"
    )

    def ask(query: str) -> list[dict[str, Any]]:
        url = f"http://127.0.0.1:{port}/api/v1/query?" + urllib.parse.urlencode({"query": query})
        text = answers(url)
        return json.loads(text)["data"]["result"] if text else []

    with program(
        require.program("prometheus"),
        f"--config.file={config}",
        f"--storage.tsdb.path={tmp_path}/data",
        f"--web.listen-address=127.0.0.1:{port}",
        log=tmp_path / "prometheus.log",
    ):
        # What dashboards for node_exporter ask.
        idle = wait_until(
            lambda: ask('avg(rate(node_cpu_seconds_total{mode="idle"}[30s]))'), what="a rate in Prometheus"
        )
        cores = ask("count(count(node_cpu_seconds_total) by (cpu))")
        memory = ask("node_memory_MemTotal_bytes")
        up = ask('up{job="tracker"}')
        percent = ask("tracker_host_cpu_percent")
        kinds = json.loads(get(f"http://127.0.0.1:{port}/api/v1/targets/metadata"))["data"]

    assert 0 <= float(idle[0]["value"][1]) <= 1.1
    assert int(cores[0]["value"][1]) == os.cpu_count()
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert float(memory[0]["value"][1]) == pages
    assert up[0]["value"][1] == "1"
    assert 0 <= float(percent[0]["value"][1]) <= 100
    kind = {each["metric"]: each["type"] for each in kinds}
    assert kind["node_cpu_seconds"] == "counter"
    assert kind["node_memory_MemTotal_bytes"] == "gauge"


#: Figures that move both ways, or that stand for a moment that cannot be the same in both programs.
MOVING = ("node_memory_", "node_load", "node_sockstat_", "node_procs_", "node_filefd_", "node_disk_io_now")
#: Time is counted in ticks, and handed on in floats.
TICK_S = 0.011


def test_figures_are_those_of_a_real_node_exporter(agent: str, tmp_path: Path) -> None:
    port = free_port()

    def theirs() -> dict[str, float]:
        return of_text(get(f"http://127.0.0.1:{port}/metrics"))

    with program(
        require.program("prometheus-node-exporter"),
        f"--web.listen-address=127.0.0.1:{port}",
        # Debian's leaves lo out; newer versions leave zram out.
        "--collector.netdev.device-exclude=^$",
        r"--collector.diskstats.device-exclude=^(z?ram|loop|fd|(h|s|v|xv)d[a-z]|nvme\d+n\d+p)\d+$",
        log=tmp_path / "node_exporter.log",
    ):
        wait_until(lambda: answers(f"http://127.0.0.1:{port}/metrics"), what="node_exporter")
        before, ours, after = theirs(), of_text(get(f"http://{agent}/metrics")), theirs()

    ours = {name: value for name, value in ours.items() if name.startswith("node_")}
    names = {name.partition("{")[0] for name in ours}
    shared = {name: value for name, value in ours.items() if name in before and name in after}
    assert len(shared) > 150
    # Ours in the same words, and nothing missing of what we have at all.
    # TCPOFOQueue and TCPRcvQDrop: version 1.5 lacks them.
    apart = (
        "node_filesystem",
        "node_pressure_irq",
        "node_netstat_TcpExt_TCPOFO",
        "node_netstat_TcpExt_TCPRcvQ",
    )
    assert {name for name in ours if name not in before and not name.startswith(apart)} == set()
    assert {
        name
        for name in before
        if name.partition("{")[0] in names and name not in ours and not name.startswith(apart)
    } == set()
    wrong = {}
    for name, value in shared.items():
        low, high = sorted((before[name], after[name]))
        if name.startswith(MOVING):
            slack = max(0.05 * abs(high), 64 * 2**20 if name.startswith("node_memory_") else 50)
        elif name.startswith("node_filesystem"):
            slack = max(0.05 * abs(high), 10_000)
        else:
            slack = TICK_S if "seconds" in name else 0
        if not low - slack <= value <= high + slack:
            wrong[name] = (low, value, high)
    assert wrong == {}
    assert any(name.startswith("node_filesystem_size_bytes") for name in shared)


def of_text(text: str) -> dict[str, float]:
    return of(text_string_to_metric_families(text))
