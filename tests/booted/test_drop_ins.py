"""The drop-ins that give the agent a privilege: what is shut out without, and what each lets in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.booted.conftest import Node
from tests.booted.test_shipping import losses
from tests.booted.test_units import pid_of, process_status
from tests.booted.trainings import SHORT
from tests.support.agent_process import wait_until
from tests.support.booted import Machine
from tests.support.installed import AGENT, agent_status, train

DROP_INS = Path(__file__).parents[2] / "packaging/systemd/drop-ins"
INSIDE = "/etc/systemd/system/tracker-agent.service.d"
CAP_DAC_READ_SEARCH, CAP_SYSLOG = 1 << 2, 1 << 34


@contextmanager
def dropped_in(machine: Machine, name: str) -> Iterator[None]:
    """Give the agent a drop-in for a while."""
    machine.write(f"{INSIDE}/{name}", (DROP_INS / name).read_text())
    try:
        machine.run("systemctl", "daemon-reload")
        machine.run("systemctl", "restart", AGENT)
        yield
    finally:
        machine.run("rm", f"{INSIDE}/{name}")
        machine.run("systemctl", "daemon-reload")
        machine.run("systemctl", "restart", AGENT)


def capabilities(machine: Machine) -> set[int]:
    status = process_status(machine, pid_of(machine, AGENT))
    return {int(status[name], 16) for name in ("CapEff", "CapPrm", "CapBnd", "CapAmb")}


@pytest.fixture
def open_spool(node: Node) -> Iterator[str]:
    """A second spool of the agent's, without the ACL of the packaged one: there the users' umask decides."""
    machine, path, settings = node.machine, "/srv/spool", "/etc/tracker/agent.toml"
    before = machine.read(settings)
    machine.run("install", "-d", "-m", "1777", "-o", AGENT, "-g", "tracker", path)
    spools = f'[agent]\nspools = ["/var/spool/tracker", "{path}"]\n'
    assert "[agent]\n" in before
    machine.write(settings, before.replace("[agent]\n", spools), 0o640)
    machine.write(f"{INSIDE}/spool.conf", f"[Service]\nReadWritePaths={path}\n")
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "restart", AGENT)
    yield path
    machine.write(settings, before, 0o640)
    machine.run("rm", "-r", f"{INSIDE}/spool.conf", path)
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "restart", AGENT)


def test_a_spool_that_the_users_umask_closed_is_shipped_with_cap_dac_read_search(
    node: Node, open_spool: str
) -> None:
    machine = node.machine
    train(machine, "bob", SHORT, "closed", "20", umask="077", environment={"TRACKER_DIR": open_spool})

    def shut_out() -> bool:
        status = machine.run("tracker-agent", "status", check=False).stdout
        return any(open_spool in line and "shuts the agent out" in line for line in status.splitlines())

    wait_until(shut_out, what="the word about the closed directory")
    assert node.service.try_get("/api/v1/runs/default/booted/closed") is None

    with dropped_in(machine, "read-closed-spools.conf"):
        assert capabilities(machine) == {CAP_DAC_READ_SEARCH}
        node.service.run_in_state("booted", "closed", "finished")
        assert losses(node.service, "closed") == [(step, 1 / (step + 1)) for step in range(20)]
    assert capabilities(machine) == {0}


def test_the_kernels_log_may_be_read_with_cap_syslog(node: Node) -> None:
    machine = node.machine
    with dropped_in(machine, "kernel-log.conf"):
        assert capabilities(machine) == {CAP_SYSLOG}
        assert machine.show(AGENT, "ProtectKernelLogs")["ProtectKernelLogs"] == "no"
        # Whether a container sees its host's log is another question: here it is no more that it may not.
        evidence = str(wait_until(lambda: agent_status(machine)["shipping"], what="the pipeline's status"))
        assert "/dev/kmsg: Permission denied" not in evidence
        assert "/dev/kmsg: Operation not permitted" not in evidence


def test_both_go_together(node: Node) -> None:
    with dropped_in(node.machine, "kernel-log.conf"), dropped_in(node.machine, "read-closed-spools.conf"):
        assert capabilities(node.machine) == {CAP_SYSLOG | CAP_DAC_READ_SEARCH}
    shown = node.machine.run("systemd-analyze", "security", "--no-pager", f"{AGENT}.service").stdout
    assert "Overall exposure level" in shown
