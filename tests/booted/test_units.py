"""The packaged units as systemd has them in force."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from tests.booted.conftest import Node
from tests.support.agent_process import wait_until
from tests.support.booted import Machine
from tests.support.installed import (
    AGENT,
    AGENT_KEY,
    CHECKOUT,
    SERVER,
    agent_status,
    install,
    put_in_key,
    start_agent,
)

EXPOSURE_MAX = 2.5
MIB = 1024 * 1024


def pid_of(machine: Machine, unit: str) -> int:
    return int(machine.show(unit, "MainPID")["MainPID"])


def process_status(machine: Machine, pid: int) -> dict[str, str]:
    lines = machine.read(f"/proc/{pid}/status").splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


@pytest.mark.parametrize("unit", [AGENT, SERVER])
def test_exposure_is_low(node: Node, unit: str) -> None:
    done = node.machine.run("systemd-analyze", "security", "--no-pager", f"{unit}.service")

    (line,) = [line for line in done.stdout.splitlines() if "Overall exposure level" in line]
    exposure = float(line.split(":")[1].split()[0])
    print(f"{node.machine.release}: {unit}: {exposure}")
    assert exposure <= EXPOSURE_MAX
    # What it complains about has its reason on the page, and reads there like `ProtectHome=`.
    page = (CHECKOUT / "docs/systemd.md").read_text()
    complaints = [each.split()[1] for each in done.stdout.splitlines() if each.startswith("✗")]
    assert complaints
    for complaint in complaints:
        for option in complaint.partition("=~")[0].rstrip("=").split("=/"):
            assert f"`{option}=`" in page, f"{unit}: nothing says why {complaint} stays"


@pytest.mark.parametrize("unit", [AGENT, SERVER])
def test_systemd_finds_nothing_wrong(node: Node, unit: str) -> None:
    done = node.machine.run(
        "systemd-analyze", "verify", "--man=no", "--recursive-errors=yes", f"{unit}.service", check=False
    )

    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("unit", [AGENT, SERVER])
def test_process_has_no_privileges(node: Node, unit: str) -> None:
    shown = node.machine.show(unit, "User", "ActiveState", "SubState", "Type", "WatchdogUSec")
    status = process_status(node.machine, pid_of(node.machine, unit))

    assert shown == {
        "User": unit,
        "ActiveState": "active",
        "SubState": "running",
        "Type": "notify",
        "WatchdogUSec": "1min",
    }
    assert status["NoNewPrivs"] == "1"
    assert status["Seccomp"] == "2"
    assert {status[name] for name in ("CapEff", "CapPrm", "CapBnd", "CapAmb", "CapInh")} == {"0" * 16}
    assert "0" not in status["Uid"].split()


def test_trainings_go_first(node: Node) -> None:
    machine, pid = node.machine, pid_of(node.machine, AGENT)
    shown = machine.show(
        AGENT, "CPUWeight", "IOWeight", "MemoryHigh", "MemoryMax", "TasksMax", "ControlGroup"
    )
    group = shown["ControlGroup"]

    assert machine.read(f"/proc/{pid}/oom_score_adj").strip() == "100"
    assert machine.run("ps", "-o", "ni=", "-p", str(pid)).stdout.strip() == "10"
    assert (shown["CPUWeight"], shown["IOWeight"]) == ("20", "20")
    assert (int(shown["MemoryHigh"]), int(shown["MemoryMax"])) == (256 * MIB, 512 * MIB)
    # What the kernel enforces. Version 1 of control groups, which these machines run on, has no MemoryHigh=;
    # of 1024 shares CPUWeight=20 makes a fifth.
    assert machine.read(f"/sys/fs/cgroup/memory{group}/memory.limit_in_bytes").strip() == str(512 * MIB)
    assert machine.read(f"/sys/fs/cgroup/cpu{group}/cpu.shares").strip() == str(1024 * 20 // 100)
    assert machine.read(f"/sys/fs/cgroup/pids{group}/pids.max").strip() == "128"


def test_key_is_a_credential_that_nobody_else_gets_at(node: Node) -> None:
    key = node.machine.read(AGENT_KEY).strip()
    pid = pid_of(node.machine, AGENT)

    environment = node.machine.read(f"/proc/{pid}/environ")
    assert "CREDENTIALS_DIRECTORY=" in environment
    assert key not in environment
    assert key not in node.machine.read(f"/proc/{pid}/cmdline")
    assert agent_status(node.machine)["server"]["key"].startswith(key[:11])


def test_agent_sees_what_it_measures_and_cannot_touch_it(node: Node) -> None:
    inside = ("nsenter", "--target", str(pid_of(node.machine, AGENT)), "--mount", "--")

    for path in ("/proc/meminfo", "/proc/diskstats", "/sys/class/net", "/home", "/var/spool/tracker"):
        node.machine.run(*inside, "ls", "-d", path)
    for path in ("/etc/tracker", "/home", "/usr", "/var/lib", "/sys/fs/cgroup", "/proc/sys/kernel/hostname"):
        done = node.machine.run(*inside, "test", "-w", path, check=False)
        assert done.returncode == 1, f"{path} is writable"
    for path in ("/var/lib/tracker-agent", "/var/spool/tracker", "/run/tracker-agent"):
        node.machine.run(*inside, "test", "-w", path)


def test_status_line_and_reload_reach_systemd(node: Node) -> None:
    machine = node.machine
    before = pid_of(machine, AGENT)

    machine.run("systemctl", "reload", AGENT)

    assert pid_of(machine, AGENT) == before
    assert machine.show(AGENT, "ActiveState")["ActiveState"] == "active"
    wait_until(lambda: machine.show(AGENT, "StatusText")["StatusText"], what="a status line of the agent")
    assert machine.show(SERVER, "StatusText")["StatusText"] == "serving at http://127.0.0.1:8600"


def test_a_configuration_that_cannot_be_used_is_not_tried_again(
    new_machine: Callable[[str], Machine],
) -> None:
    machine = new_machine("bookworm")
    install(machine, AGENT)
    put_in_key(machine, "")
    # Restarts would come at once.
    machine.write("/run/systemd/system/tracker-agent.service.d/soon.conf", "[Service]\nRestartSec=100ms\n")
    machine.run("systemctl", "daemon-reload")
    good = machine.read("/etc/tracker/agent.toml")
    misspelt = good.replace("[sampler]\n", "[sampler]\nintervall_s = 2\n")
    machine.write("/etc/tracker/agent.toml", misspelt, 0o640)

    assert machine.run("systemctl", "start", AGENT, check=False).returncode != 0

    shown = machine.show(AGENT, "ActiveState", "Result", "ExecMainStatus", "NRestarts")
    assert shown == {"ActiveState": "failed", "Result": "exit-code", "ExecMainStatus": "2", "NRestarts": "0"}
    said = " ".join(str(entry["MESSAGE"]) for entry in machine.journal(AGENT))
    assert "intervall_s" in said

    machine.write("/etc/tracker/agent.toml", good, 0o640)
    start_agent(machine)
    # Anything else that ends it is.
    for _ in range(3):
        before = pid_of(machine, AGENT)
        machine.run("systemctl", "kill", "--signal=KILL", "--kill-whom=main", AGENT)
        wait_until(lambda before=before: pid_of(machine, AGENT) not in (0, before), what="another process")  # type: ignore[misc]
    wait_until(lambda: machine.show(AGENT, "SubState")["SubState"] == "running", what="the agent")
    assert machine.show(AGENT, "NRestarts")["NRestarts"] == "3"
    assert json.loads(machine.run("tracker-agent", "status", "--json").stdout)["agent"]["pid"]


def test_a_server_that_stands_still_is_killed_and_started_again(node: Node) -> None:
    machine, place = node.machine, f"/run/systemd/system/{SERVER}.service.d/soon.conf"
    machine.write(place, "[Service]\nWatchdogSec=5\nTimeoutAbortSec=1\nRestartSec=100ms\n")
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "restart", SERVER)
    before = pid_of(machine, SERVER)
    hosts = [host["machine"] for host in node.service.get("/api/v1/hosts")["hosts"]]

    machine.run("kill", "-STOP", str(before))

    wait_until(lambda: pid_of(machine, SERVER) not in (0, before), 60, "another process")
    machine.run("rm", place)
    machine.run("systemctl", "daemon-reload")
    node.service.start()
    assert [host["machine"] for host in node.service.get("/api/v1/hosts")["hosts"]] == hosts
    said = [str(entry["MESSAGE"]) for entry in machine.journal(SERVER)]
    assert any("Watchdog timeout" in each for each in said)
