"""Packages come and go while trainings of two users write: nothing is lost, nothing is doubled."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.booted.conftest import BROKEN, make_node
from tests.booted.writers import Writers, writing
from tests.support.agent_process import wait_until
from tests.support.booted import Machine
from tests.support.installed import (
    AGENT,
    SERVER,
    Service,
    agent_status,
    boot_for_packages,
    install,
    package,
    put_in_key,
    start_agent,
)

pytestmark = pytest.mark.xdist_group("upgrade")

CONFIG = "/etc/tracker/agent.toml"
SPOOL = "/var/spool/tracker"
#: `make packages` builds it besides the version of the checkout.
NEXT = "0.1.1"
DATABASE = "/var/lib/tracker-server/tracker.db"
#: Makes a database what it was before the last migration. Arguments: the file.
WITHOUT_LAST_MIGRATION = """
import sqlite3, sys
with sqlite3.connect(sys.argv[1]) as database:
    database.executescript('''
        DROP TABLE writer_samples; DROP TABLE host_events; UPDATE alembic_version SET version_num = '0004';
    ''')
"""


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    with boot_for_packages(BROKEN) as machine:
        yield machine


@pytest.fixture(scope="module")
def service(machine: Machine) -> Service:
    return make_node(machine).service


def upgrade(machine: Machine, name: str) -> None:
    """Install the next version of a package, while the one of this checkout is installed."""
    file = package(name, machine.release, NEXT)
    machine.run("dpkg", "--install", file, environment={"DEBIAN_FRONTEND": "noninteractive"})
    assert machine.run("dpkg-query", "--show", name).stdout.split()[1].startswith(NEXT)


def check_private(machine: Machine, writers: Writers) -> None:
    """Fail if a user can read another's run, or list who has some."""
    run = machine.run("sh", "-c", f"ls -d {SPOOL}/1001/{writers.runs['alice'][0]}").stdout.strip()
    for attempt in (
        f"ls {SPOOL}",
        f"ls {SPOOL}/1001",
        f"ls {run}",
        f"cat {run}/*.mpl",
        f"rm -rf {run}/x {run}",
    ):
        assert machine.run("sh", "-c", attempt, user="bob", check=False).returncode != 0, attempt
    assert machine.run("sh", "-c", f"cat {run}/*.mpl | wc -c", user="alice").stdout.strip() != "0"


def test_upgrade_of_the_agent_while_twenty_runs_write(machine: Machine, service: Service) -> None:
    own = machine.read(CONFIG) + "\n# ours\n"
    machine.write(CONFIG, own, 0o640)
    before = agent_status(machine)["agent"]

    with writing(machine, "upgrade", service, runs_per_user=10, per_second=20):
        upgrade(machine, AGENT)
        status = wait_until(lambda: agent_status(machine), what="a status")

    assert status["agent"]["pid"] != before["pid"]
    assert machine.read(CONFIG) == own
    assert machine.run("systemctl", "is-enabled", AGENT).stdout.strip() == "enabled"


def test_upgrade_of_the_server_migrates_its_database_and_keeps_what_it_has(
    machine: Machine, service: Service
) -> None:
    with writing(machine, "before", service) as before:
        pass

    with writing(machine, "server-upgrade", service):
        machine.run("systemctl", "stop", SERVER)
        machine.run("/usr/bin/python3", "-c", WITHOUT_LAST_MIGRATION, DATABASE)
        upgrade(machine, SERVER)
        service.start()

    before.check(service)
    (host,) = service.get("/api/v1/hosts")["hosts"]
    assert service.get(f"/api/v1/hosts/{host['machine']}/events")["events"] == []


def test_users_write_on_while_the_agent_is_removed_and_a_new_one_ships_it(
    machine: Machine, service: Service
) -> None:
    with writing(machine, "removal", service) as writers:
        machine.run("dpkg", "--remove", AGENT)
        assert machine.run("systemctl", "is-active", AGENT, check=False).stdout.strip() == "inactive"
        writers.wait_for_more()
        with writing(machine, "while-removed", None) as alone:
            check_private(machine, writers)
            check_private(machine, alone)
        assert machine.read(CONFIG), "the configuration stays until a purge"
        install(machine, AGENT)
        start_agent(machine)

    alone.check(service)


def test_purge_leaves_users_data_and_a_new_agent_ships_it(machine: Machine, service: Service) -> None:
    key = service.new_key("again")

    with writing(machine, "purge", service) as writers:
        machine.run("systemctl", "stop", SERVER)  # so that there is something that nobody has but the spool
        writers.wait_for_more()
        machine.run("dpkg", "--purge", AGENT)
        writers.wait_for_more()
        left = machine.run(
            "sh", "-c", "ls -d /etc/tracker/agent* /var/lib/tracker-agent /opt/tracker-agent", check=False
        )
        assert left.stdout == ""
        check_private(machine, writers)
        service.start()
        install(machine, AGENT)
        put_in_key(machine, key)
        start_agent(machine)
