"""The collector infiniband, on machines made of files."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fixtures.hosts.devices import Port, write_port
from tests.support.fixture_host import MACHINES, FixtureHost
from tests.support.metric_table import undeclared
from tracker_agent.collectors.collector import NothingHere
from tracker_agent.collectors.devices import DeviceSettings
from tracker_agent.collectors.infiniband import FAULTS_S, RESCAN_S, InfinibandCollector
from tracker_agent.collectors.link_changes import QUIET_S

FIRST = "sys/class/infiniband/mlx5_0/ports/1"
OLD = "sys/class/infiniband/mlx4_0/ports/1"


def take(machine: str, tmp_path: Path) -> FixtureHost:
    return FixtureHost(machine, tmp_path / "host")


def later(host: FixtureHost, collector: InfinibandCollector, seconds: float = 10.0) -> dict[str, float]:
    host.advance(seconds)
    return dict(collector.sample().values)


def begun(host: FixtureHost) -> InfinibandCollector:
    collector = InfinibandCollector(host.context())
    assert not [
        name for name in collector.sample().values if name.endswith("bytes_per_s") and "speed" not in name
    ]
    return collector


def test_data_is_counted_in_words_of_four_octets(tmp_path: Path) -> None:
    host = take("intel-2s", tmp_path)
    collector = begun(host)
    host.add(f"{FIRST}/counters/port_rcv_data", 1000)
    host.add(f"{FIRST}/counters/port_xmit_data", 3000)
    host.add(f"{FIRST}/counters/port_rcv_packets", 10)
    host.add("sys/class/infiniband/mlx5_1/ports/1/counters/port_rcv_data", 500)

    values = later(host, collector, 2)

    assert values["host.infiniband.mlx5_0_1.received.bytes_per_s"] == 2000
    assert values["host.infiniband.mlx5_0_1.sent.bytes_per_s"] == 6000
    assert values["host.infiniband.mlx5_0_1.received.packets_per_s"] == 5
    assert values["host.infiniband.received.bytes_per_s"] == 3000
    assert values["host.infiniband.mlx5_0_1.speed.bytes_per_s"] == 25e9
    assert values["host.infiniband.mlx5_0_1.link_up.count"] == 1


def test_port_without_a_cable_is_neither_named_nor_down(tmp_path: Path) -> None:
    host = take("intel-2s", tmp_path)

    values = later(host, begun(host))

    assert not [name for name in values if "mlx5_2" in name]
    assert values["host.infiniband.ports_down.count"] == 0


def test_faults_are_the_mean_of_ten_seconds_and_shown_until_the_next_look(tmp_path: Path) -> None:
    host = take("intel-2s", tmp_path)
    collector = begun(host)
    host.add(f"{FIRST}/counters/symbol_error", 50)
    host.add(f"{FIRST}/counters/port_rcv_errors", 10)
    host.add(f"{FIRST}/counters/port_rcv_remote_physical_errors", 20)

    before, after, held = later(host, collector, 2), later(host, collector, 8), later(host, collector, 2)

    assert "host.infiniband.symbol_errors_per_s" not in before
    assert after["host.infiniband.symbol_errors_per_s"] == 5
    assert after["host.infiniband.mlx5_0_1.symbol_errors_per_s"] == 5
    assert after["host.infiniband.received.errors_per_s"] == 3
    assert held["host.infiniband.symbol_errors_per_s"] == 5


def test_ports_name_only_the_faults_they_ever_had(tmp_path: Path) -> None:
    host = take("intel-2s", tmp_path)

    values = later(host, begun(host))

    assert values["host.infiniband.symbol_errors_per_s"] == 0
    assert "host.infiniband.mlx5_0_1.symbol_errors_per_s" not in values
    assert values["host.infiniband.mlx5_0_1.transmit_wait_per_s"] == 0


def test_counters_of_roce(tmp_path: Path) -> None:
    host = take("amd-128c", tmp_path)
    collector = begun(host)
    growth = {
        "out_of_sequence": "out_of_sequence_per_s",
        "local_ack_timeout_err": "ack_timeouts_per_s",
        "roce_adp_retrans": "adaptive_retransmits_per_s",
        "rnr_nak_retry_err": "rnr_nak_retries_per_s",
        "np_cnp_sent": "cnp_sent_per_s",
        "np_ecn_marked_roce_packets": "ecn_marked_per_s",
        "rp_cnp_handled": "cnp_handled_per_s",
        "out_of_buffer": "received.drops_per_s",
    }
    for number, file in enumerate(growth, 1):
        host.add(f"{FIRST}/hw_counters/{file}", 10 * number)

    values = later(host, collector)

    for number, name in enumerate(growth.values(), 1):
        assert values[f"host.infiniband.mlx5_0_1.{name}"] == number
        assert values[f"host.infiniband.{name}"] == number


def test_efa_counts_bytes_of_its_own(tmp_path: Path) -> None:
    host = take("empty", tmp_path)
    counters = {"rx_bytes": 10, "tx_bytes": 20, "rx_pkts": 1, "tx_pkts": 2, "rx_drops": 5, "lifespan": 12}
    write_port(
        host.root, Port("rdmap16s27", 1, "Unspecified", "100 Gb/sec (4X EDR)", "4: ACTIVE", {}, counters)
    )
    collector = begun(host)
    host.add("sys/class/infiniband/rdmap16s27/ports/1/hw_counters/rx_bytes", 5000)

    values = later(host, collector)

    assert values["host.infiniband.rdmap16s27_1.received.bytes_per_s"] == 500
    assert values["host.infiniband.sent.packets_per_s"] == 0


def test_counter_that_is_full_gives_no_value_and_is_named(tmp_path: Path) -> None:
    host = take("slurm-v1", tmp_path)
    collector = begun(host)
    host.write(f"{OLD}/counters/port_rcv_data", f"{2**32 - 1}\n")
    host.write(f"{OLD}/counters/link_downed", "255\n")
    host.write(f"{OLD}/counters/port_rcv_constraint_errors", "255\n")

    later(host, collector)
    host.advance(10)
    reading = collector.sample()

    assert "host.infiniband.mlx4_0_1.received.bytes_per_s" not in reading.values
    assert "host.infiniband.received.bytes_per_s" not in reading.values
    assert "host.infiniband.link_downed_per_s" not in reading.values
    assert "host.infiniband.received.errors_per_s" not in reading.values
    assert reading.values["host.infiniband.mlx4_0_1.sent.bytes_per_s"] == 0
    assert reading.problems == (
        f"mlx4_0_1: counters/port_rcv_data ({2**32 - 1}) is full and counts no more until a reset",
        "mlx4_0_1: counters/link_downed (255) is full and counts no more until a reset",
        "mlx4_0_1: counters/port_rcv_constraint_errors (255) is full and counts no more until a reset",
    )


def test_wide_counter_passes_by_where_a_narrow_one_is_full(tmp_path: Path) -> None:
    host = take("intel-2s", tmp_path)
    host.write(f"{FIRST}/counters/port_rcv_data", f"{2**32 - 2}\n")
    collector = begun(host)
    host.add(f"{FIRST}/counters/port_rcv_data", 4)

    assert later(host, collector, 2)["host.infiniband.mlx5_0_1.received.bytes_per_s"] == 8


def test_counters_that_were_reset_give_no_value_for_that_interval(tmp_path: Path) -> None:
    host = take("intel-2s", tmp_path)
    collector = begun(host)
    host.write(f"{FIRST}/counters/port_rcv_data", "10\n")

    first = later(host, collector, 2)
    host.add(f"{FIRST}/counters/port_rcv_data", 100)
    second = later(host, collector, 2)

    assert "host.infiniband.mlx5_0_1.received.bytes_per_s" not in first
    assert "host.infiniband.mlx5_0_1.sent.bytes_per_s" not in first
    assert second["host.infiniband.mlx5_0_1.received.bytes_per_s"] == 200


def test_link_that_is_lost_is_told_and_counts_as_down(tmp_path: Path) -> None:
    host = take("intel-2s", tmp_path)
    collector = begun(host)
    host.write(f"{FIRST}/state", "1: DOWN\n")
    host.add(f"{FIRST}/counters/link_downed", 1)
    host.advance(FAULTS_S)

    reading = collector.sample()
    host.write(f"{FIRST}/state", "4: ACTIVE\n")
    host.advance(QUIET_S)
    back = collector.sample()

    assert [event.title for event in reading.events] == ["mlx5_0_1 lost its link"]
    assert reading.values["host.infiniband.mlx5_0_1.link_up.count"] == 0
    assert "host.infiniband.mlx5_0_1.speed.bytes_per_s" not in reading.values
    assert reading.values["host.infiniband.ports_down.count"] == 1
    assert [event.title for event in back.events] == ["mlx5_0_1 has its link again"]
    assert back.values["host.infiniband.ports_down.count"] == 0


def test_link_that_was_lost_between_two_looks_is_told(tmp_path: Path) -> None:
    host = take("intel-2s", tmp_path)
    collector = begun(host)
    host.add(f"{FIRST}/counters/link_downed", 3)
    host.advance(FAULTS_S)

    (event,) = collector.sample().events

    assert event.title == "mlx5_0_1 lost its link for a moment"
    assert event.facts["changes"] == 3


def test_link_of_an_ethernet_port_is_left_to_the_network_collector(tmp_path: Path) -> None:
    host = take("amd-128c", tmp_path)
    collector = begun(host)
    host.write(f"{FIRST}/state", "1: DOWN\n")
    host.advance(FAULTS_S)

    reading = collector.sample()

    assert reading.events == ()
    assert reading.values["host.infiniband.ports_down.count"] == 1


def test_card_that_is_pulled_out_and_one_that_appears(tmp_path: Path) -> None:
    host = take("intel-2s", tmp_path)
    collector = begun(host)
    host.remove("sys/class/infiniband/mlx5_0")
    write_port(host.root, Port("mlx5_9", 2, "InfiniBand", "?", "4: ACTIVE", {"port_rcv_data": 10**15}))

    values = later(host, collector, 2)
    later(host, collector, RESCAN_S)
    host.add("sys/class/infiniband/mlx5_9/ports/2/counters/port_rcv_data", 5)
    after = later(host, collector, 10)

    assert not [
        name
        for name in values
        if "mlx5_0" in name
        and "link_up" not in name
        and "speed" not in name
        and "transmit_wait" not in name
        and "link_downed" not in name
    ]
    assert not [name for name in after if "mlx5_0" in name]
    assert after["host.infiniband.mlx5_9_2.received.bytes_per_s"] == 2
    assert "host.infiniband.mlx5_9_2.speed.bytes_per_s" not in after


def test_only_so_many_ports_have_values_of_their_own(tmp_path: Path) -> None:
    host = take("amd-128c", tmp_path)
    collector = InfinibandCollector(host.context(settings=DeviceSettings(devices_max=2)))
    collector.sample()
    host.add("sys/class/infiniband/mlx5_7/ports/1/counters/port_rcv_data", 10)

    values = later(host, collector)

    assert {name.split(".")[2] for name in values if name.startswith("host.infiniband.mlx")} == {
        "mlx5_0_1",
        "mlx5_1_1",
    }
    assert values["host.infiniband.received.bytes_per_s"] == 4


@pytest.mark.parametrize("machine", MACHINES)
def test_machines_bring_only_what_the_table_says(machine: str, tmp_path: Path) -> None:
    host = take(machine, tmp_path)
    collector = InfinibandCollector(host.context())
    if machine in ("container", "empty", "hybrid"):
        with pytest.raises(NothingHere):
            collector.sample()
        return
    collector.sample()

    values = later(host, collector)

    assert undeclared(InfinibandCollector, values) == []
    assert "host.infiniband.received.bytes_per_s" in values


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(0, 2**32 - 1) | st.just(2**32 - 1), min_size=2, max_size=6))
def test_rates_of_a_narrow_counter_are_those_of_honest_growth(
    tmp_path_factory: pytest.TempPathFactory, counted: list[int]
) -> None:
    host = FixtureHost("empty", tmp_path_factory.mktemp("h") / "host")
    write_port(host.root, Port("mlx4_0", 1, "InfiniBand", "?", "4: ACTIVE", {"port_rcv_data": counted[0]}))
    collector = InfinibandCollector(host.context())
    collector.sample()
    for before, now in itertools.pairwise(counted):
        host.write(f"{OLD}/counters/port_rcv_data", f"{now}\n")

        values = later(host, collector, 2)

        name = "host.infiniband.mlx4_0_1.received.bytes_per_s"
        if now >= before and now < 2**32 - 1:
            assert values[name] == pytest.approx((now - before) * 4 / 2)
        else:
            assert name not in values
