"""The machine's figures on /metrics: what a scrape survives, GPUs by DCGM's names, values as gauges."""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as strict_families

from tests.agent.test_metrics_endpoint import STATUS, values
from tests.agent.test_node_figures import of
from tests.support.agent_process import wait_until
from tests.support.fixture_host import MACHINES, FixtureHost
from tracker_agent.collectors.chosen import COLLECTORS
from tracker_agent.collectors.collector import Event
from tracker_agent.collectors.kernel import Kernel
from tracker_agent.collectors.nvidia_metrics import METRICS as NVIDIA_METRICS
from tracker_agent.gpu_figures import _FIELDS, XID_SHOWN_S, gpu_figures
from tracker_agent.host_figures import _FILESYSTEM, Gauges, HostFigures, Sampled
from tracker_agent.node_figures import NodeFigures
from tracker_agent.sampler import LastReading
from tracker_agent.telemetry import Telemetry

NOW_NS = 10**18


def reading(values: dict[str, float], facts: dict[str, Any] | None = None) -> LastReading:
    return LastReading(values, 1.5, facts)


def host_figures(kernel: Kernel, sampled: Sampled | None = None) -> HostFigures:
    return HostFigures(NodeFigures(kernel), lambda: sampled or Sampled({}), "gpu-7", lambda: NOW_NS)


def scrape(telemetry: Telemetry, accept: str = "") -> str:
    return asyncio.run(telemetry.scrape(accept))[0].decode()


@pytest.fixture
def host(tmp_path: Path) -> FixtureHost:
    return FixtureHost("intel-2s", tmp_path / "host")


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
