"""A machine with server and agent whose units tests may break, and what they ask of it again and again."""

from __future__ import annotations

from typing import Any

from tests.booted.writers import PROJECT, SHORT_RUN
from tests.support.agent_process import wait_until
from tests.support.booted import Machine
from tests.support.installed import AGENT, Service, train

CONFIG = "/etc/tracker/agent.toml"


class Host:
    """The machine, and the server on it."""

    def __init__(self, machine: Machine, service: Service) -> None:
        self.machine = machine
        self.service = service

    def main_pid(self, unit: str = AGENT) -> int:
        """Return the pid of a unit's main process."""
        return int(self.machine.show(unit, "MainPID")["MainPID"])

    def wait_for_another(self, pid: int, unit: str = AGENT) -> None:
        """Return once systemd has started the unit anew, and it is ready."""

        def runs_anew() -> bool:
            shown = self.machine.show(unit, "MainPID", "ActiveState")
            return shown["ActiveState"] == "active" and shown["MainPID"] not in ("0", str(pid))

        wait_until(runs_anew, what=f"another {unit} than {pid}")

    def results(self) -> set[str]:
        """Return what systemd said of how the agent ended, so far."""
        return {entry["UNIT_RESULT"] for entry in self.machine.journal(AGENT) if "UNIT_RESULT" in entry}

    def kills(self) -> int:
        """Return how often the agent was killed. cgroups of version 1 tell no kill for memory from others."""
        results = [entry.get("UNIT_RESULT") for entry in self.machine.journal(AGENT)]
        return sum(result in ("oom-kill", "signal") for result in results)

    def said(self, message: str) -> list[dict[str, Any]]:
        """Return the entries of the agent that are about one thing."""
        return [entry for entry in self.machine.journal(AGENT) if entry.get("TRACKER_EVENT") == message]

    def reload_with(self, config: str) -> None:
        """Put a configuration in place, as an editor does, and reload."""
        self.machine.write(CONFIG, config, 0o640)
        self.machine.run("chown", "root:tracker", CONFIG)
        self.machine.run("systemctl", "reload", AGENT)

    def drop_in(self, name: str, text: str) -> None:
        """Change the unit."""
        self.machine.write(f"/etc/systemd/system/{AGENT}.service.d/{name}.conf", text)
        self.machine.run("systemctl", "daemon-reload")

    def finish_a_run(self, run: str) -> None:
        """Have a short run written and shipped from its beginning to its end."""
        train(self.machine, "alice", SHORT_RUN, run)
        self.service.run_in_state(PROJECT, run, "finished")
