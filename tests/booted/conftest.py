"""Booted machines: `make booted` builds the packages that they install, and runs these tests.

Needs root, systemd-nspawn and mmdebstrap. `node` is shared by the tests of one release: they leave it as they
found it, with server and agent running. Whoever wants to break something boots a machine with `new_machine`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from tests.booted.host import Host
from tests.support.booted import Machine
from tests.support.booted_root import RELEASES
from tests.support.installed import (
    AGENT,
    SERVER,
    Service,
    boot_for_packages,
    install,
    put_in_key,
    start_agent,
)

#: The release whose machines are broken and upgraded; BREAK_RELEASE=trixie tries the other one.
BROKEN = os.environ.get("BREAK_RELEASE", "bookworm")
#: The agent's unit as it is, but for times that tests would wait for.
IN_A_HURRY = "[Service]\nRestartSec=200ms\nWatchdogSec=3s\n"


@dataclass
class Node:
    """A machine with server and agent from their packages, both running."""

    machine: Machine
    service: Service


@pytest.fixture(scope="session")
def nodes() -> Iterator[dict[str, Node]]:
    """The nodes that were made so far, by release; they stay until the last test."""
    made: dict[str, Node] = {}
    yield made
    for node in made.values():
        node.machine.stop()


@pytest.fixture(params=RELEASES)
def node(request: pytest.FixtureRequest, nodes: dict[str, Node]) -> Node:
    """A node of each release."""
    release: str = request.param
    if release not in nodes:
        machine = boot_for_packages(release)
        try:
            nodes[release] = make_node(machine)
        except BaseException:
            machine.stop()
            raise
    return nodes[release]


def make_node(machine: Machine) -> Node:
    """Do what an operator does: install, start the server, put in a key, start the agent."""
    install(machine, SERVER, AGENT)
    service = Service(machine)
    service.start()
    put_in_key(machine, service.new_key())
    start_agent(machine)
    return Node(machine, service)


@pytest.fixture(scope="session")
def host() -> Iterator[Host]:
    """A node that tests may break, if they mend it: of the group "faults", and never waiting for long."""
    with boot_for_packages(BROKEN) as machine:
        host = Host(machine, make_node(machine).service)
        host.drop_in("in-a-hurry", IN_A_HURRY)
        machine.run("systemctl", "restart", AGENT)
        yield host


@pytest.fixture
def new_machine() -> Iterator[Callable[[str], Machine]]:
    """Boots machines that see our packages and have none installed; they end with the test."""
    machines: list[Machine] = []

    def make(release: str = "bookworm") -> Machine:
        machines.append(boot_for_packages(release))
        return machines[-1]

    yield make
    for machine in machines:
        machine.stop()
