"""The drop-ins that give the agent a privilege: what is shut out without, and what each lets in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.booted.conftest import Node
from tests.booted.test_shipping import losses
from tests.booted.test_units import pid_of, process_status
from tests.booted.trainings import CLOSED
from tests.support.agent_process import wait_until
from tests.support.booted import Machine
from tests.support.booted_root import USERS
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


def test_a_spool_that_its_user_closed_is_shipped_with_cap_dac_read_search(node: Node) -> None:
    machine = node.machine
    try:
        train(machine, "bob", CLOSED, "closed", "20")
        his = f"/var/spool/tracker/{USERS['bob']}"
        problem = wait_until(
            lambda: [
                line
                for line in machine.run("tracker-agent", "status", check=False).stdout.splitlines()
                if his in line
            ],
            what="the word about the closed directory",
        )
        assert "shuts the agent out" in problem[0]
        assert node.service.try_get("/api/v1/runs/default/booted/closed") is None

        with dropped_in(machine, "read-closed-spools.conf"):
            assert capabilities(machine) == {CAP_DAC_READ_SEARCH}
            node.service.run_in_state("booted", "closed", "finished")
            assert losses(node.service, "closed") == [(step, 1 / (step + 1)) for step in range(20)]
            # It reads everything, and still writes nowhere else.
            assert machine.show(AGENT, "ProtectSystem")["ProtectSystem"] == "strict"
        assert capabilities(machine) == {0}
    finally:
        machine.run("rm", "-rf", his)


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
