"""What an operator does on a booted machine: installs our packages, puts in a key, starts; and trainings."""

from __future__ import annotations

import json
import subprocess
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from tests.support.agent_process import wait_until
from tests.support.booted import SHIM_INSIDE, Machine, boot
from tests.support.server_process import ServerError

CHECKOUT = Path(__file__).parents[2]
#: `make packages` puts them there.
PACKAGES = CHECKOUT / "dist/packages"
PACKAGES_INSIDE = "/packages"
URL = "http://127.0.0.1:8600"
AGENT, SERVER = "tracker-agent", "tracker-server"
AGENT_KEY = "/etc/tracker/agent-key"
START_S = 30.0


def boot_for_packages(release: str) -> Machine:
    """Boot a machine that sees the packages built before, and has none of them installed."""
    return boot(release, {PACKAGES: PACKAGES_INSIDE})


def package(name: str, release: str, version: str | None = None) -> str:
    """Return the path, inside a machine, of a package built for a release: of this checkout's version."""
    if version is None:
        directory = name.removeprefix("tracker-")
        manifest = tomllib.loads((CHECKOUT / directory / "pyproject.toml").read_text())
        version = manifest["project"]["version"]
    file = PACKAGES / f"{name}_{version}-1~{release}_amd64.deb"
    assert file.exists(), f"{file} is missing; run: make packages"
    return f"{PACKAGES_INSIDE}/{file.name}"


def install(machine: Machine, *names: str) -> str:
    """Install packages of ours; return what dpkg said. Their dependencies are there already."""
    files = [package(name, machine.release) for name in names]
    done = machine.run("dpkg", "--install", *files, environment={"DEBIAN_FRONTEND": "noninteractive"})
    return done.stdout + done.stderr


class Service:
    """The server of a machine, asked through its public interface."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self._admin_key = ""

    def start(self) -> None:
        """Start it as a unit; return when it serves."""
        self.machine.run("systemctl", "start", SERVER)
        wait_until(self._ready, START_S, "the server's readiness")

    def _ready(self) -> bool:
        try:
            self.machine.request("GET", f"{URL}/readyz")
        except (ServerError, OSError):
            return False
        return True

    def new_key(self, name: str = "agent", scopes: str = "ingest") -> str:
        """Return a key of a service account, as an operator makes one for his agents."""
        done = self.machine.run(
            *("tracker-server", "key", "create", "--config", "/etc/tracker/server.toml"),
            *("--name", name, "--scopes", scopes, "--service", "agents"),
        )
        return done.stdout.strip()

    def get(self, path: str, params: Any = None) -> Any:
        """Return the JSON at a path, read with the admin key of the first start."""
        if not self._admin_key:
            self._admin_key = self.machine.read("/var/lib/tracker-server/admin-key").strip()
        query = f"?{urlencode(params, doseq=True)}" if params else ""
        return self.machine.request("GET", URL + path + query, key=self._admin_key)

    def try_get(self, path: str, params: Any = None) -> Any:
        """Return the JSON at a path, or None where the status is 404."""
        try:
            return self.get(path, params)
        except ServerError as error:
            if error.status == 404:
                return None
            raise

    def run_in_state(self, project: str, run: str, state: str, timeout_s: float = 60.0) -> dict[str, Any]:
        """Return a run's page once the run is in that state."""

        def look() -> dict[str, Any] | None:
            page: dict[str, Any] | None = self.try_get(f"/api/v1/runs/default/{project}/{run}")
            return page if page and page["state"] == state else None

        page: dict[str, Any] = wait_until(look, timeout_s, f"{run} is {state}")
        return page


def put_in_key(machine: Machine, key: str) -> None:
    """Leave the key where the agent's unit loads it from."""
    machine.write(AGENT_KEY, key + "\n", 0o600)


def start_agent(machine: Machine) -> None:
    """Start the agent's unit; it is ready then."""
    machine.run("systemctl", "start", AGENT)


def agent_status(machine: Machine) -> dict[str, Any]:
    """Return what root sees of the running agent."""
    status: dict[str, Any] = json.loads(machine.run("tracker-agent", "status", "--json").stdout)
    return status


def train(
    machine: Machine,
    user: str,
    script: str,
    *arguments: str,
    start: Callable[..., Any] | None = None,
    umask: str = "022",
    environment: Mapping[str, str] | None = None,
) -> Any:
    """Run a training of a user to its end, in an environment of its own. start=machine.start: return at once.

    It finds spool and server as any user's training does: nothing names them.
    """
    how = start or machine.run
    return how(
        *("/usr/bin/python3", "-c", script, *arguments),
        user=user,
        environment={"PYTHONPATH": SHIM_INSIDE, "PYTHONUNBUFFERED": "1", **(environment or {})},
        properties={"UMask": umask},
    )


def end(process: subprocess.Popen[str]) -> str:
    """Wait for a training that was started; return what it said."""
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 0, said
    return said
