"""What happens to a daemon, while trainings of two users write: nothing is lost, nothing is doubled."""

from __future__ import annotations

import re

import pytest

from tests.booted.host import CONFIG, Host
from tests.booted.writers import writing
from tests.support.agent_process import wait_until
from tests.support.installed import AGENT, SERVER, agent_status

pytestmark = pytest.mark.xdist_group("faults")

JOURNALD = ("systemd-journald.socket", "systemd-journald-dev-log.socket", "systemd-journald.service")


def test_killed_agent_is_started_again(host: Host) -> None:
    before = host.main_pid()

    with writing(host.machine, "killed", host.service):
        for _ in range(3):
            pid = host.main_pid()
            host.machine.run("systemctl", "kill", "--signal=KILL", AGENT)
            host.wait_for_another(pid)

    assert host.main_pid() != before
    assert agent_status(host.machine)["shipping"]["parked"] == []


def test_agent_that_stands_still_is_killed_by_the_watchdog(host: Host) -> None:
    pid = host.main_pid()

    with writing(host.machine, "stopped", host.service):
        host.machine.run("kill", "-STOP", str(pid))
        host.wait_for_another(pid)

    assert "watchdog" in host.results()


def test_agent_is_not_killed_while_its_server_does_not_answer(host: Host) -> None:
    pid, restarts = host.main_pid(), host.machine.show(AGENT, "NRestarts")

    with writing(host.machine, "silent", host.service) as writers:
        host.machine.run("systemctl", "kill", "--signal=STOP", SERVER)
        host.machine.run("sleep", "7")  # twice the watchdog's time, and more
        writers.wait_for_more()
        host.machine.run("systemctl", "kill", "--signal=CONT", SERVER)

    assert (host.main_pid(), host.machine.show(AGENT, "NRestarts")) == (pid, restarts)


def test_agent_that_hits_its_memory_limit_is_started_again(host: Host) -> None:
    machine, pid, killed = host.machine, host.main_pid(), host.kills()
    group = f"/sys/fs/cgroup/memory/system.slice/{AGENT}.service"

    with writing(machine, "short-of-memory", host.service):
        (resident,) = re.findall(r"^total_rss (\d+)$", machine.read(f"{group}/memory.stat"), re.MULTILINE)
        # The next one grows beyond this.
        limit = int(resident) // 2
        machine.run("systemctl", "set-property", "--runtime", AGENT, f"MemoryMax={limit}")
        machine.run("systemctl", "kill", "--signal=KILL", AGENT)
        wait_until(lambda: host.kills() > killed + 1, what="a kill for memory")
        machine.run("systemctl", "set-property", "--runtime", AGENT, "MemoryMax=512M")
        host.wait_for_another(pid)


def test_restart_of_journald_goes_unnoticed(host: Host) -> None:
    pid = host.main_pid()

    with writing(host.machine, "journald", host.service):
        host.machine.run("systemctl", "restart", JOURNALD[-1])
        host.machine.run("systemctl", "reload", AGENT)
        before = len(host.said("configuration reloaded"))
        host.machine.run("systemctl", "reload", AGENT)
        wait_until(lambda: len(host.said("configuration reloaded")) > before, what="a line after the restart")

    assert host.main_pid() == pid


def test_agent_ships_without_journald_and_is_heard_again_after(host: Host) -> None:
    pid = host.main_pid()

    with writing(host.machine, "no-journald", host.service):
        host.machine.run("systemctl", "stop", *JOURNALD)
        try:
            for _ in range(30):
                host.machine.run("kill", "-HUP", str(pid))
            host.finish_a_run("without-journald")
        finally:
            host.machine.run("systemctl", "start", *JOURNALD[:2], JOURNALD[2])
        before = len(host.said("configuration reloaded"))
        host.machine.run("systemctl", "reload", AGENT)
        wait_until(lambda: len(host.said("configuration reloaded")) > before, what="a line again")

    assert host.main_pid() == pid


def test_agent_does_not_wait_for_a_journald_that_stands_still(host: Host) -> None:
    # Few entries may wait at a socket that is made from now on: whoever waits for journald waits soon.
    host.machine.run("sh", "-c", "echo 5 >/proc/sys/net/unix/max_dgram_qlen")
    host.machine.run("systemctl", "stop", *JOURNALD)
    host.machine.run("systemctl", "start", *JOURNALD)
    pid, journald = host.main_pid(), host.main_pid(JOURNALD[-1])
    before = len(host.said("configuration reloaded"))

    with writing(host.machine, "stuck-journald", host.service):
        host.machine.run("kill", "-STOP", str(journald))
        try:
            for _ in range(30):
                host.machine.run("kill", "-HUP", str(pid))
                host.machine.run("sleep", "0.1")
            host.machine.run("sleep", "4")  # longer than the watchdog waits
            host.finish_a_run("beside-a-stuck-journald")
        finally:
            host.machine.run("kill", "-CONT", str(journald))
        wait_until(
            lambda: len(host.said("configuration reloaded")) >= before + 20, what="what was kept for journald"
        )

    assert host.main_pid() == pid


def test_reload_puts_settings_into_force_and_a_broken_file_does_not(host: Host) -> None:
    pid = host.main_pid()
    good = host.machine.read(CONFIG)

    with writing(host.machine, "reloaded", host.service):
        host.reload_with(good + "\n[collectors.cpu]\ninterval_s = 7\n")
        wait_until(
            lambda: agent_status(host.machine)["sampler"]["collectors"]["cpu"]["interval_s"] == 7,
            what="the new setting",
        )
        host.reload_with(good + "\n[server\n")
        status = wait_until(
            lambda: (s := agent_status(host.machine)) and s["agent"]["reload_problem"] and s,
            what="a word about the file",
        )

    assert status["sampler"]["collectors"]["cpu"]["interval_s"] == 7
    assert f"{CONFIG}, line " in status["agent"]["reload_problem"]
    (line,) = host.said("reload refused, the old configuration stays in force")
    assert (line["PRIORITY"], CONFIG in line["TRACKER_REASON"]) == ("3", True)
    assert host.main_pid() == pid
    host.reload_with(good)


def test_killed_server_is_started_again(host: Host) -> None:
    with writing(host.machine, "server-killed", host.service):
        pid = host.main_pid(SERVER)
        host.machine.run("systemctl", "kill", "--signal=KILL", SERVER)
        host.wait_for_another(pid, SERVER)
        host.machine.run("systemctl", "restart", SERVER)


def test_users_cannot_read_each_others_runs_nor_ask_the_agent(host: Host) -> None:
    with writing(host.machine, "private", host.service):
        (run,) = host.machine.run("sh", "-c", "ls -d /var/spool/tracker/1001/private-alice-*").stdout.split()
        tries = {
            "list the spool": ("ls", "/var/spool/tracker"),
            "list the user's runs": ("ls", "/var/spool/tracker/1001"),
            "list a run": ("ls", run),
            "read a run": ("sh", "-c", f"cat {run}/*"),
            "remove a run": ("rm", "-r", run),
            "write into a run": ("touch", f"{run}/files/x"),
            "take the agent's socket": ("tracker-agent", "status", "--state-dir", "/var/lib/tracker-agent"),
            "read the key": ("cat", "/etc/tracker/agent-key"),
            "read the configuration": ("cat", CONFIG),
        }

        done = {name: host.machine.run(*command, user="bob", check=False) for name, command in tries.items()}

        assert [name for name, each in done.items() if each.returncode == 0] == []
        owner = host.machine.run("sh", "-c", f"cat {run}/*.mpl | wc -c", user="alice")
        assert int(owner.stdout) > 0, "the owner may"
