"""The Ansible role, run by ansible-playbook against a booted machine, by way of a stand-in for ssh."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.conftest import DEPLOY
from tests.support import require
from tests.support.booted import Machine
from tests.support.installed import AGENT, PACKAGES, boot_for_packages, package

#: What the modules for packages need on a Debian host, and a minimal one may lack.
PYTHON_APT = ("python3-apt", "python-apt-common", "distro-info-data")
SSH = """\
#!/bin/sh
# Runs what comes last on the machine, as sshd would: as root's own session.
for last; do :; done
exec nsenter --target {leader} --all -- \\
    env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 sh -c "$last"
"""


class Playbook:
    """The role against one machine."""

    def __init__(self, machine: Machine, directory: Path) -> None:
        self.machine = machine
        self._directory = directory
        self._ssh = directory / "ssh"
        self._ssh.write_text(SSH.format(leader=machine.leader))
        self._ssh.chmod(0o755)
        (deb,) = PACKAGES.glob(Path(package(AGENT, machine.release)).name)
        self.variables: dict[str, Any] = {
            "tracker_agent_package": str(deb),
            "tracker_agent_settings": {
                "server": {"url": "http://127.0.0.1:8600"},
                "agent": {"spools": ["/var/spool/tracker"], "scan_interval_s": 0.25, "watch": "off"},
                "collectors.nvidia": {"enabled": "off"},
            },
            "tracker_agent_key": "tk_aaaaaaaa_" + "b" * 32,
        }

    def run(self, *flags: str) -> tuple[int, dict[str, int], str]:
        """Return the exit status, the counts of the recap, and all that was said."""
        host = {
            "ansible_host": "machine",
            "ansible_ssh_executable": str(self._ssh),
            "ansible_ssh_transfer_method": "piped",
            "ansible_ssh_args": "",
            "ansible_python_interpreter": "/usr/bin/python3",
            "ansible_become": False,
            **self.variables,
        }
        inventory = self._directory / "hosts.yml"
        inventory.write_text(yaml.safe_dump({"tracker_agents": {"hosts": {"node": host}}}))
        done = subprocess.run(
            ["ansible-playbook", "-i", str(inventory), *flags, "playbook.yml"],
            cwd=DEPLOY / "ansible",
            env={**os.environ, "ANSIBLE_HOME": str(self._directory), "ANSIBLE_NOCOLOR": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=180,
            check=False,
        )
        recap = re.search(r"^node\s+: (.*)$", done.stdout, re.MULTILINE)
        assert recap is not None, done.stdout
        counts = {name: int(count) for name, count in re.findall(r"(\w+)=(\d+)", recap[1])}
        return done.returncode, counts, done.stdout

    def run_well(self, *flags: str) -> dict[str, int]:
        """Run it; return the counts."""
        status, counts, said = self.run(*flags)
        assert status == 0, said
        return counts

    def main_pid(self) -> str:
        return self.machine.show(AGENT, "MainPID")["MainPID"]


@pytest.fixture(scope="module")
def playbook(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Playbook]:
    directory = tmp_path_factory.mktemp("ansible")
    with boot_for_packages("bookworm") as machine:
        if machine.run("python3", "-c", "import apt", check=False).returncode:
            _bring_python_apt(machine, directory)
        yield Playbook(machine, directory)


def _bring_python_apt(machine: Machine, directory: Path) -> None:
    apt = require.program("apt-get", "apt")
    debs = directory / "debs"
    debs.mkdir()
    debs.chmod(0o777)
    subprocess.run([apt, "download", "-qq", *PYTHON_APT], cwd=debs, check=True, timeout=120)
    machine.copy_in(debs, "/tmp/debs")
    machine.run("sh", "-c", "dpkg --install /tmp/debs/*.deb")


def test_role_installs_configures_and_starts_and_then_changes_nothing(playbook: Playbook) -> None:
    machine = playbook.machine

    playbook.run_well("--check")
    assert machine.run("dpkg", "-s", AGENT, check=False).returncode != 0, "a check installs nothing"

    assert playbook.run_well()["changed"] > 0
    assert machine.show(AGENT, "ActiveState")["ActiveState"] == "active"
    assert machine.run("systemctl", "is-enabled", AGENT).stdout == "enabled\n"
    modes = machine.run("stat", "-c", "%a %U:%G", "/etc/tracker/agent.toml", "/etc/tracker/agent-key").stdout
    assert modes == "640 root:tracker\n600 root:root\n"
    said = machine.run("tracker-agent", "status", "--json").stdout
    assert "http://127.0.0.1:8600" in said
    assert "tk_aaaaaaaa" in said

    assert playbook.run_well()["changed"] == 0


def test_changed_settings_are_reloaded_and_a_changed_key_restarts(playbook: Playbook) -> None:
    before = playbook.main_pid()
    playbook.variables["tracker_agent_settings"]["agent"]["log_level"] = "debug"

    playbook.run_well()

    assert playbook.main_pid() == before
    assert 'log_level = "debug"' in playbook.machine.read("/etc/tracker/agent.toml")
    playbook.variables["tracker_agent_key"] = "tk_cccccccc_" + "d" * 32
    playbook.variables["tracker_agent_drop_in"] = "[Service]\nMemoryMax=400M"
    status, _, said = playbook.run("-v", "--diff")
    assert status == 0, said
    assert playbook.main_pid() != before
    assert "tk_cccccccc" not in said
    assert playbook.machine.show(AGENT, "MemoryMax")["MemoryMax"] == str(400 * 2**20)


def test_settings_that_cannot_be_used_are_refused_before_they_are_written(playbook: Playbook) -> None:
    settings = playbook.variables["tracker_agent_settings"]
    playbook.variables["tracker_agent_settings"] = {**settings, "sampler": {"interval": 2}}
    before = playbook.machine.read("/etc/tracker/agent.toml")

    status, _, said = playbook.run()

    playbook.variables["tracker_agent_settings"] = settings
    assert status != 0
    assert "interval_s" in said
    assert playbook.machine.read("/etc/tracker/agent.toml") == before
    assert playbook.machine.show(AGENT, "ActiveState")["ActiveState"] == "active"
