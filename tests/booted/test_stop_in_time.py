"""The agent ends within ten seconds, whatever its server does, and what it did not ship is shipped later."""

from __future__ import annotations

import time

import pytest

from tests.booted.host import Host
from tests.booted.writers import PROJECT, SHORT_RUN
from tests.support.agent_process import wait_until
from tests.support.booted import Machine
from tests.support.installed import AGENT, SERVER, agent_status, start_agent, train

pytestmark = pytest.mark.xdist_group("faults")

STOP_S = 10.0
#: A name server that takes every question and answers none.
DEAF_NAME_SERVER = """
import socket
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as deaf:
    deaf.bind(("127.0.0.1", 53))
    while True:
        deaf.recv(512)
"""


def stop_s(machine: Machine) -> float:
    """Stop the unit; return how long that took."""
    began = time.monotonic()
    machine.run("systemctl", "stop", AGENT)
    took_s = time.monotonic() - began
    shown = machine.show(AGENT, "Result", "ExecMainStatus")
    assert shown == {"Result": "success", "ExecMainStatus": "0"}
    return took_s


def test_agent_stops_in_time_while_its_server_is_gone(host: Host) -> None:
    machine, service = host.machine, host.service
    machine.run("systemctl", "stop", SERVER)
    try:
        train(machine, "alice", SHORT_RUN, "left-behind")
        wait_until(lambda: agent_status(machine)["shipping"]["behind"]["bytes"], what="something to ship")

        assert stop_s(machine) < STOP_S
    finally:
        service.start()
        start_agent(machine)
    service.run_in_state(PROJECT, "left-behind", "finished")


def test_agent_stops_in_time_while_its_server_is_silent(host: Host) -> None:
    machine, service = host.machine, host.service
    machine.run("systemctl", "kill", "--signal=STOP", SERVER)
    try:
        train(machine, "alice", SHORT_RUN, "kept-waiting")
        wait_until(lambda: agent_status(machine)["shipping"]["behind"]["unasked"], what="a question to it")

        assert stop_s(machine) < STOP_S
    finally:
        machine.run("systemctl", "kill", "--signal=CONT", SERVER)
        start_agent(machine)
    service.run_in_state(PROJECT, "kept-waiting", "finished")


def test_agent_stops_in_time_while_its_name_server_is_silent(host: Host) -> None:
    machine = host.machine
    machine.run("systemd-run", "--unit=deaf", "/usr/bin/python3", "-c", DEAF_NAME_SERVER)
    wait_until(lambda: ":0035 " in machine.read("/proc/net/udp"), what="the deaf name server")
    machine.write("/etc/resolv.conf", "nameserver 127.0.0.1\noptions timeout:30 attempts:5\n")
    elsewhere = "Environment=TRACKER_AGENT_SERVER_URL=http://tracker.example.org"
    host.drop_in("elsewhere", f"[Service]\n{elsewhere}\n")
    machine.run("systemctl", "restart", AGENT)
    try:
        (server,) = wait_until(
            lambda: agent_status(machine)["shipping"].get("servers"), what="the server in status"
        )
        assert server["state"] == "connecting"

        assert stop_s(machine) < STOP_S
    finally:
        machine.run("systemctl", "stop", "deaf")
        host.drop_in("elsewhere", "")
        start_agent(machine)
