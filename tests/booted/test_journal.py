"""What operators find in the journal."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.booted.conftest import Node
from tests.support.agent_process import wait_until
from tests.support.booted import Machine
from tests.support.installed import AGENT, SERVER, install, put_in_key

INFO, WARNING = "6", "4"


def entries_of(machine: Machine, unit: str, field: str, value: str) -> list[dict[str, Any]]:
    return [entry for entry in machine.journal(unit) if entry.get(field) == value]


def test_entries_of_the_agent_have_fields(node: Node) -> None:
    (entry, *_) = wait_until(
        lambda: entries_of(node.machine, AGENT, "TRACKER_EVENT", "agent started"), what="the first entry"
    )

    assert entry["PRIORITY"] == INFO
    assert entry["SYSLOG_IDENTIFIER"] == AGENT
    assert entry["_SYSTEMD_UNIT"] == f"{AGENT}.service"
    assert entry["TRACKER_SERVER"] == "http://127.0.0.1:8600"
    assert entry["TRACKER_PID"] == entry["_PID"]
    assert entry["MESSAGE"].startswith("agent started ")


def test_entries_of_the_agent_have_priorities(node: Node) -> None:
    machine, settings = node.machine, "/etc/tracker/agent.toml"
    good = machine.read(settings)
    machine.write(settings, good + "\n[agent]\n", 0o640)  # a second table of that name is no TOML
    try:
        machine.run("systemctl", "reload", AGENT)
        (entry,) = wait_until(
            lambda: [each for each in machine.journal(AGENT) if "reload refused" in each["MESSAGE"]],
            what="the refusal",
        )
    finally:
        machine.write(settings, good, 0o640)
        machine.run("systemctl", "reload", AGENT)

    assert entry["PRIORITY"] == "3"
    assert settings in entry["TRACKER_REASON"]
    filtered = machine.run("journalctl", "-q", "-u", AGENT, "-p", "err", "-o", "cat").stdout
    assert "reload refused" in filtered
    assert "agent started" not in filtered


def test_entries_of_the_server_have_fields_and_no_keys(node: Node) -> None:
    machine = node.machine
    machine.run("systemctl", "restart", SERVER)
    (entry, *_) = wait_until(
        lambda: entries_of(machine, SERVER, "TRACKER_EVENT", "stopping"), what="an entry of the server"
    )
    key = machine.read("/var/lib/tracker-server/admin-key").strip()

    assert (entry["PRIORITY"], entry["SYSLOG_IDENTIFIER"]) == (INFO, SERVER)
    said = " ".join(str(each["MESSAGE"]) for each in machine.journal(SERVER))
    assert "signin-link" in said, "the first start says how to get in"
    assert key not in said, "more people read the journal than may administer the server"


@pytest.mark.parametrize("unit", [AGENT, SERVER])
def test_without_systemd_python_it_says_so_and_writes_lines(
    unit: str, new_machine: Callable[[str], Machine]
) -> None:
    machine = new_machine("bookworm")
    install(machine, unit)
    machine.run("sh", "-c", "rm -r /opt/$1/lib/python3.*/site-packages/systemd", "sh", unit)
    put_in_key(machine, "")
    machine.run("systemctl", "restart", unit)

    entry, *_ = wait_until(
        lambda: [
            each for each in machine.journal(unit) if "systemd-python is not installed" in each["MESSAGE"]
        ],
        what="the line that says so",
    )

    assert entry["MESSAGE"].startswith("{"), "JSON"
    assert "python3-systemd" in entry["MESSAGE"], "what to do"
    assert entry["PRIORITY"] == INFO, "journald takes the prefix off"
    assert machine.show(unit, "ActiveState")["ActiveState"] == "active", "notify works without it"
