"""The collectors network and tcp: on machines made of files, and on a real cable between two namespaces."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fixtures.hosts.devices import Interface, write_interface
from tests.support.agent_process import wait_until
from tests.support.fixture_host import MACHINES, FixtureHost
from tests.support.metric_table import undeclared
from tests.support.network import Network
from tracker_agent.collectors.collector import Collector, NothingHere
from tracker_agent.collectors.devices import DeviceSettings
from tracker_agent.collectors.interfaces import find_interfaces
from tracker_agent.collectors.link_changes import QUIET_S, LinkChanges
from tracker_agent.collectors.network import RESCAN_S, NetworkCollector
from tracker_agent.collectors.tcp import TcpCollector

#: Columns of /proc/net/dev: the name is 0.
RECEIVED, RECEIVED_PACKETS, RECEIVED_ERRORS, RECEIVED_DROPS = 1, 2, 3, 4
SENT, SENT_PACKETS, SENT_ERRORS, SENT_DROPS = 9, 10, 11, 12
DEV = "proc/net/dev"


def take(machine: str, tmp_path: Path) -> FixtureHost:
    return FixtureHost(machine, tmp_path / "host")


def begun(host: FixtureHost, **more: Any) -> NetworkCollector:
    collector = NetworkCollector(host.context(**more))
    assert not [name for name in collector.sample().values if name.endswith("_per_s") and "speed" not in name]
    return collector


def later(host: FixtureHost, collector: Collector, seconds: float = 2.0) -> dict[str, float]:
    host.advance(seconds)
    return dict(collector.sample().values)


def named(values: dict[str, float]) -> set[str]:
    return {
        name.split(".")[2]
        for name in values
        if name.endswith(".received.bytes_per_s") and name.count(".") == 4
    }


# What counts.


def test_cards_count_and_what_stands_on_them_does_not(tmp_path: Path) -> None:
    host = take("amd-128c", tmp_path)
    collector = begun(host)
    for name in ("lo", "eth0", "bond0", "bond0.100", "br0", "docker0", "veth1a2b3c", "tap7", "dummy0"):
        host.grow(DEV, name, RECEIVED, 1000)
        host.grow(DEV, name, SENT, 600)
    host.grow(DEV, "eth9", RECEIVED, 500)

    values = later(host, collector)

    assert values["host.network.received.bytes_per_s"] == 1500 / 2
    assert values["host.network.sent.bytes_per_s"] == 600 / 2


def test_named_are_cards_and_what_leads_outside_on_them(tmp_path: Path) -> None:
    host = take("amd-128c", tmp_path)
    collector = begun(host)

    values = later(host, collector)

    assert named(values) == {f"eth{number}" for number in range(10)} | {"bond0", "bond0_100", "br0"}
    assert undeclared(NetworkCollector, values) == []


def test_cards_are_named_before_what_stands_on_them(tmp_path: Path) -> None:
    host = take("amd-128c", tmp_path)
    host.grow(DEV, "br0", RECEIVED, 10**15)
    collector = begun(host, settings=DeviceSettings(devices_max=3))

    assert named(later(host, collector)) == {"eth9", "eth8", "eth7"}


def test_card_that_never_carried_a_byte_is_not_named(tmp_path: Path) -> None:
    host = take("intel-2s", tmp_path)

    assert named(later(host, begun(host))) == {"eno1", "ib0", "ib1"}


def test_rates_of_one_card(tmp_path: Path) -> None:
    host = take("hybrid", tmp_path)
    collector = begun(host)
    growth = {RECEIVED: 2000, RECEIVED_PACKETS: 20, RECEIVED_ERRORS: 1, RECEIVED_DROPS: 2}
    growth |= {SENT: 4000, SENT_PACKETS: 40, SENT_ERRORS: 3, SENT_DROPS: 4}
    for column, more in growth.items():
        host.grow(DEV, "enp3s0", column, more)

    values = later(host, collector)

    own = {
        name.removeprefix("host.network.enp3s0."): value for name, value in values.items() if "enp3" in name
    }
    assert own == {
        "received.bytes_per_s": 1000,
        "sent.bytes_per_s": 2000,
        "received.packets_per_s": 10,
        "sent.packets_per_s": 20,
        "errors_per_s": 2,
        "drops_per_s": 3,
        "speed.bytes_per_s": 2500e6 / 8,
        "link_up.count": 1,
    }
    totals = {
        "host.network.errors_per_s": 2,
        "host.network.drops_per_s": 3,
        "host.network.received.packets_per_s": 10,
    }
    assert totals.items() <= values.items()


def test_card_that_does_not_know_its_speed_has_none(tmp_path: Path) -> None:
    host = take("hybrid", tmp_path)

    values = later(host, begun(host))

    assert "host.network.wlp4s0.speed.bytes_per_s" not in values


def test_azures_pair_of_cards_counts_once(tmp_path: Path) -> None:
    host = take("empty", tmp_path)
    write_interface(host.root, Interface("eth0", 2, card=True))
    write_interface(host.root, Interface("enP1s1", 3, card=True, master="eth0"))

    assert find_interfaces(host.kernel, ["eth0", "enP1s1"]).counted == ("eth0",)


def test_container_counts_what_leads_out_of_it(tmp_path: Path) -> None:
    host = take("empty", tmp_path)
    for interface in (
        Interface("lo", 1, kind=772),
        Interface("eth0", 2, link=9),
        Interface("docker0", 3, lower=("veth7",), more=("bridge",)),
        Interface("veth7", 4, link=2, master="docker0"),
        Interface("tun0", 5, more=("tun_flags",)),
        Interface("ifb0", 6),
    ):
        write_interface(host.root, interface)

    found = find_interfaces(host.kernel, ["lo", "eth0", "docker0", "veth7", "tun0", "ifb0"])

    assert found.counted == ("eth0",)
    assert found.stacked == ()


def test_container_without_root_counts_its_tap(tmp_path: Path) -> None:
    host = take("empty", tmp_path)
    write_interface(host.root, Interface("tap0", 2, more=("tun_flags",)))
    write_interface(host.root, Interface("dummy0", 3))

    assert find_interfaces(host.kernel, ["lo", "tap0", "dummy0"]).counted == ("tap0",)


def test_sandbox_without_sysfs_counts_all_but_loopback(tmp_path: Path) -> None:
    host = take("container", tmp_path)
    collector = begun(host)
    host.grow(DEV, "eth0", RECEIVED, 100)
    host.grow(DEV, "lo", RECEIVED, 900)

    values = later(host, collector)

    assert values["host.network.received.bytes_per_s"] == 50
    assert "host.network.eth0.link_up.count" not in values


# Interfaces that come, go and start again.


def test_interface_that_began_anew_gives_no_value_for_that_interval(tmp_path: Path) -> None:
    host = take("hybrid", tmp_path)
    collector = begun(host)
    host.grow(DEV, "enp3s0", RECEIVED, -2_999_999_000)
    host.grow(DEV, "enp3s0", SENT, 5000)
    host.grow(DEV, "wlp4s0", SENT, 100)

    first = later(host, collector)
    host.grow(DEV, "enp3s0", SENT, 100)
    second = later(host, collector)

    assert "host.network.enp3s0.sent.bytes_per_s" not in first
    assert first["host.network.sent.bytes_per_s"] == 50
    assert second["host.network.enp3s0.sent.bytes_per_s"] == 50


def test_card_that_appears_is_found_at_once_and_one_that_goes_vanishes(tmp_path: Path) -> None:
    host = take("hybrid", tmp_path)
    collector = begun(host)
    write_interface(host.root, Interface("usb0", 9, card=True))
    host.write(DEV, host.read(DEV).replace("wlp4s0:", "usb0:"))
    host.remove("sys/class/net/wlp4s0")

    first = later(host, collector)
    host.grow(DEV, "usb0", RECEIVED, 10)
    second = later(host, collector)

    assert named(first) == {"enp3s0"}
    assert named(second) == {"enp3s0", "usb0"}
    assert not [name for name in second if "wlp4s0" in name]
    assert second["host.network.received.bytes_per_s"] == 5


def test_card_that_joins_a_bond_of_cards_is_sorted_again_after_a_while(tmp_path: Path) -> None:
    host = take("hybrid", tmp_path)
    collector = begun(host)
    (host.root / "sys/class/net/wlp4s0/master").symlink_to("../enp3s0")
    host.grow(DEV, "wlp4s0", RECEIVED, 100)

    values = later(host, collector, RESCAN_S)

    assert values["host.network.received.bytes_per_s"] == 0


@settings(deadline=None, max_examples=50)
@given(
    st.lists(
        st.dictionaries(st.sampled_from(["enp3s0", "wlp4s0"]), st.integers(0, 2**64), max_size=2), max_size=6
    )
)
def test_no_rate_is_ever_negative_or_of_a_time_unknown(
    tmp_path_factory: pytest.TempPathFactory, steps: list[dict[str, int]]
) -> None:
    host = FixtureHost("empty", tmp_path_factory.mktemp("h") / "host")
    for number, name in enumerate(("enp3s0", "wlp4s0")):
        write_interface(host.root, Interface(name, number, card=True))
    collector = NetworkCollector(host.context())
    before: dict[str, int] = {}
    for number, counters in enumerate(steps):
        host.write(
            DEV,
            "".join(f"{name}: {value} 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n" for name, value in counters.items()),
        )

        values = later(host, collector)

        known = {name: value for name, value in counters.items() if name in before and value >= before[name]}
        grown = sum(float(value) - float(before[name]) for name, value in known.items())
        if number and known:
            assert values["host.network.received.bytes_per_s"] == pytest.approx(grown / 2)
        else:
            assert "host.network.received.bytes_per_s" not in values
        assert all(value >= 0 for value in values.values())
        before = counters


# Links.


def set_link(host: FixtureHost, name: str, up: bool) -> None:
    host.write(f"sys/class/net/{name}/carrier", f"{int(up)}\n")
    changes = host.root / f"sys/class/net/{name}/carrier_changes"
    if changes.exists():
        host.add(f"sys/class/net/{name}/carrier_changes", 1)


def test_link_that_is_lost_and_comes_back_is_told(tmp_path: Path) -> None:
    host = take("hybrid", tmp_path)
    collector = NetworkCollector(host.context())
    assert collector.sample().events == ()

    set_link(host, "enp3s0", up=False)
    host.advance(2)
    lost = collector.sample()
    set_link(host, "enp3s0", up=True)
    host.advance(QUIET_S)
    back = collector.sample()

    assert [(event.title, event.level) for event in lost.events] == [("enp3s0 lost its link", "warn")]
    assert lost.events[0].time == int(1002 * 1e9)
    assert lost.values["host.network.enp3s0.link_up.count"] == 0
    assert [(event.title, event.level) for event in back.events] == [("enp3s0 has its link again", "info")]


def test_link_that_was_lost_between_two_samples_is_told(tmp_path: Path) -> None:
    host = take("hybrid", tmp_path)
    collector = NetworkCollector(host.context())
    collector.sample()
    set_link(host, "enp3s0", up=False)
    set_link(host, "enp3s0", up=True)

    (event,) = collector.sample().events

    assert event.title == "enp3s0 lost its link for a moment"
    assert event.facts == {"link": "enp3s0", "up": True, "changes": 2}


def test_link_of_an_old_kernel_without_a_count_is_told_by_its_state(tmp_path: Path) -> None:
    host = take("slurm-v1", tmp_path)
    collector = NetworkCollector(host.context())
    collector.sample()
    set_link(host, "eth0", up=False)

    (event,) = collector.sample().events

    assert event.title == "eth0 lost its link"


def test_interface_that_was_switched_off_has_no_link(tmp_path: Path) -> None:
    host = take("hybrid", tmp_path)
    collector = begun(host)
    host.remove("sys/class/net/enp3s0/carrier")

    assert later(host, collector)["host.network.enp3s0.link_up.count"] == 0


def test_infiniband_link_is_left_to_its_own_collector(tmp_path: Path) -> None:
    host = take("intel-2s", tmp_path)
    collector = begun(host)
    set_link(host, "ib0", up=False)
    host.advance(2)

    assert collector.sample().events == ()


def test_link_that_flaps_all_the_time_is_told_once_a_minute() -> None:
    links, told = LinkChanges(), []
    for step in range(300):
        event = links.look("eth0", step % 2 == 0, step, 2.0 * step, 0)
        told += [] if event is None else [event]

    assert len(told) == 600 / QUIET_S
    assert sum(event.facts["changes"] for event in told) >= 300 - QUIET_S / 2


def test_driver_that_was_loaded_again_is_no_flap() -> None:
    links = LinkChanges()
    links.look("eth0", True, 9, 0.0, 0)

    assert links.look("eth0", True, 1, 100.0, 0) is None
    assert links.look("eth0", True, 1, 200.0, 0) is None


# softnet and TCP.


@pytest.mark.parametrize("machine", ["intel-2s", "slurm-v1"])
def test_what_cores_could_not_take_in_is_added_up(machine: str, tmp_path: Path) -> None:
    host = take(machine, tmp_path)
    collector = begun(host)
    lines = host.read("proc/net/softnet_stat").splitlines()
    for number, (drops, squeezed) in ((0, ("0000000a", "00000005")), (1, ("00000003", "00000015"))):
        words = lines[number].split()
        words[1:3] = drops, squeezed
        lines[number] = " ".join(words)
    # A core's counter of 32 bits went round.
    lines[2] = lines[2].replace(" 00000005", " 00000001", 1)
    host.write("proc/net/softnet_stat", "\n".join(lines) + "\n")

    values = later(host, collector)

    assert values["host.network.softnet_drops_per_s"] == (10 + 2) / 2
    assert values["host.network.softnet_squeezed_per_s"] == 16 / 2


def test_tcp_rates_and_sockets(tmp_path: Path) -> None:
    host = take("intel-2s", tmp_path)
    collector = TcpCollector(host.context())
    first = dict(collector.sample().values)
    host.replace("proc/net/snmp", "1000000 100 0 7", "1000950 150 0 9")
    host.replace("proc/net/netstat", "TcpExt: 0 2 3 40", "TcpExt: 0 4 7 60")

    values = later(host, collector, 10)

    assert first == {
        "host.tcp.established.count": 33,
        "host.tcp.sockets.count": 50,
        "host.tcp.time_wait.count": 12,
        "host.tcp.orphans.count": 1,
        "host.tcp.memory.bytes": 25 * 4096,
    }
    assert values == first | {
        "host.tcp.sent_segments_per_s": 95,
        "host.tcp.retransmits_per_s": 5,
        "host.tcp.retransmits.percent": 5,
        "host.tcp.resets_sent_per_s": pytest.approx(0.2),
        "host.tcp.timeouts_per_s": 2,
        "host.tcp.listen_drops_per_s": pytest.approx(0.4),
        "host.tcp.listen_overflows_per_s": pytest.approx(0.2),
    }
    assert undeclared(TcpCollector, values) == []


def test_tcp_that_sent_nothing_has_no_share_of_retransmissions(tmp_path: Path) -> None:
    host = take("container", tmp_path)
    collector = TcpCollector(host.context())
    collector.sample()

    assert "host.tcp.retransmits.percent" not in later(host, collector)


def test_machine_without_tcp_has_nothing_here(tmp_path: Path) -> None:
    with pytest.raises(NothingHere):
        TcpCollector(take("empty", tmp_path).context()).sample()


# All machines, and this one.


@pytest.mark.parametrize("machine", MACHINES)
def test_machines_bring_only_what_the_table_says(machine: str, tmp_path: Path) -> None:
    host = take(machine, tmp_path)
    collector = begun(host)

    values = later(host, collector)

    assert undeclared(NetworkCollector, values) == []
    assert bool(values) == (machine != "empty")


@pytest.mark.parametrize("kind", [NetworkCollector, TcpCollector])
def test_collector_brings_what_its_table_says_on_this_machine(kind: type[Collector]) -> None:
    collector = kind()
    totals = {metric.name for metric in kind.metrics if "#" not in metric.name}
    # Needs segments that were sent in between.
    totals -= {"host.tcp.retransmits.percent"}

    def second() -> dict[str, float] | None:
        values = dict(collector.sample().values)
        return values if totals <= set(values) else None

    values = wait_until(second, what="all totals")

    assert undeclared(kind, values) == []
    assert all(value >= 0 for value in values.values())


#: Between the two samples lies one second, by a clock of their own.
SAMPLE_TWICE = """
import json, sys
from tracker_agent.collectors.collector import Context
from tracker_agent.collectors.network import NetworkCollector

clock = [0.0]
collector = NetworkCollector(Context(monotonic=lambda: clock[0]))
collector.sample()
print("ready", flush=True)
sys.stdin.readline()
clock[0] = 1.0
reading = collector.sample()
print(json.dumps([dict(reading.values), [event.title for event in reading.events]]))
"""


@contextmanager
def sink_inside(network: Network) -> Iterator[socket.socket]:
    """A TCP connection to a program in the namespace that reads all it gets."""
    program = (
        "import socket\n"
        f"listener = socket.create_server(({network.inside!r}, 0))\n"
        "print(listener.getsockname()[1], flush=True)\n"
        "peer = listener.accept()[0]\n"
        "while peer.recv(1 << 20): pass\n"
        "peer.sendall(b'all')\n"
    )
    sink = subprocess.Popen(
        [*network.prefix, sys.executable, "-c", program], stdout=subprocess.PIPE, text=True
    )
    assert sink.stdout is not None
    try:
        with socket.create_connection((network.inside, int(sink.stdout.readline())), timeout=60) as client:
            yield client
    finally:
        sink.kill()
        sink.wait(10)
        sink.stdout.close()


def test_bytes_on_a_real_cable_are_counted_in_a_container_that_has_no_cards() -> None:
    size = 50_000_000
    with Network() as network:
        # Like a container: in its own namespace, with a /sys that shows it.
        inside = [
            "ip",
            "netns",
            "exec",
            network.name,
            sys.executable,
            "-c",
            SAMPLE_TWICE,
        ]
        agent = subprocess.Popen(inside, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert agent.stdin is not None
        assert agent.stdout is not None
        try:
            with sink_inside(network) as client:
                assert agent.stdout.readline() == "ready\n"
                client.sendall(bytes(size))
                client.shutdown(socket.SHUT_WR)
                assert client.recv(3) == b"all"
            output, _ = agent.communicate("go\n", timeout=60)
        finally:
            agent.kill()
            agent.wait(10)
        values, _ = json.loads(output)

    received = values["host.network.received.bytes_per_s"]
    (card,) = named(values)
    # Headers of Ethernet, IP and TCP: 66 bytes for each 1448, or for up to 64 KiB where segments stay whole.
    assert size < received < size * 1.06
    assert values[f"host.network.{card}.received.bytes_per_s"] == received
    assert values[f"host.network.{card}.link_up.count"] == 1
    assert values["host.network.received.packets_per_s"] > 0
    assert 0 < values["host.network.sent.bytes_per_s"] < size * 0.06


def test_real_cable_that_is_pulled_is_told() -> None:
    ping = (
        "import socket\n"
        "with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:\n"
        "    sender.sendto(b'x', (%r, 9))\n"
    )
    with Network() as network:
        subprocess.run([*network.prefix, sys.executable, "-c", ping % network.outside], check=True)
        command = ["ip", "netns", "exec", network.name, sys.executable, "-c", SAMPLE_TWICE]
        agent = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert agent.stdout is not None
        try:
            assert agent.stdout.readline() == "ready\n"
            subprocess.run(["ip", "link", "set", network._outer, "down"], check=True)
            output, _ = agent.communicate("go\n", timeout=60)
        finally:
            agent.kill()
            agent.wait(10)

    assert json.loads(output)[1] == [f"{network._inner} lost its link"]
