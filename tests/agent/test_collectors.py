"""Collectors of the kernel's figures: on this machine, and on figures made up for the odd cases."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from tests.support.agent_process import wait_until
from tracker_agent.collectors.collector import Collector, NothingHere
from tracker_agent.collectors.disk import DiskCollector
from tracker_agent.collectors.network import NetworkCollector


@pytest.mark.parametrize("kind", [NetworkCollector, DiskCollector])
def test_collector_brings_what_its_table_says_on_this_machine(kind: type[Collector]) -> None:
    collector = kind()
    declared = {metric.name for metric in collector.metrics}
    try:
        collector.sample()
    except NothingHere:
        assert kind is DiskCollector
        return

    def second() -> dict[str, float] | None:
        values = dict(collector.sample().values)
        return values if len(values) >= len(declared) - 1 else None

    values = wait_until(second, what="rates and percentages")
    assert set(values) <= declared
    for name, value in values.items():
        assert value >= 0, name
        if name.endswith("percent"):
            assert value <= 100, name


def nic(received: int, sent: int = 0) -> Any:
    return SimpleNamespace(
        bytes_recv=received, bytes_sent=sent, errin=1, errout=1, dropin=1, dropout=1, packets_sent=0
    )


def test_network_counts_real_interfaces_only() -> None:
    counters = [
        {"eth0": nic(100), "lo": nic(0), "docker0": nic(0), "veth12": nic(0), "ib0": nic(10)},
        {"eth0": nic(300, 50), "lo": nic(9999), "docker0": nic(9999), "veth12": nic(9999), "ib0": nic(110)},
    ]
    moments = [0.0, 2.0]
    collector = NetworkCollector(lambda: counters.pop(0), lambda: moments.pop(0))
    assert collector.sample().values == {}

    values = collector.sample().values

    assert values["host.network.received.bytes_per_s"] == 150
    assert values["host.network.sent.bytes_per_s"] == 25
    assert values["host.network.errors_per_s"] == 0


def test_disk_counts_whole_disks_once() -> None:
    def disk(size: int) -> Any:
        return SimpleNamespace(read_bytes=size, write_bytes=2 * size, read_count=size, write_count=size)

    names = ["sda", "sda1", "dm-0", "md0", "loop3", "nvme0n1", "nvme0n1p2"]
    counters = [{name: disk(0) for name in names}, {name: disk(10) for name in names}]
    moments = [0.0, 1.0]
    collector = DiskCollector(
        lambda: counters.pop(0),
        lambda name: name in ("sda", "dm-0", "md0", "nvme0n1"),
        lambda: moments.pop(0),
    )
    collector.sample()

    values = collector.sample().values

    assert values["host.disk.read.bytes_per_s"] == 20
    assert values["host.disk.written.bytes_per_s"] == 40


def test_machine_without_disks_has_nothing_here() -> None:
    with pytest.raises(NothingHere):
        DiskCollector(dict).sample()
