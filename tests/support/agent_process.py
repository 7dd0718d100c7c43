"""A real tracker-agent process on temporary directories, for tests that need the whole path."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support.alone import ALONE
from tests.support.service_process import ServiceProcess, services_python


def wait_until(condition: Callable[[], Any], timeout_s: float = 30.0, what: str = "the condition") -> Any:
    """Return the first true value of condition(), asked every 20 ms. Fail after timeout_s."""
    deadline = time.monotonic() + timeout_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not come true within {timeout_s} s")
        time.sleep(0.02)


class AgentProcess(ServiceProcess):
    """Starts, kills and restarts one agent. Use as a context manager."""

    def __init__(
        self, root: Path, server_url: str, key: str, watch: bool = True, extra_config: str = ""
    ) -> None:
        self.spool = root / "spool"
        self.spool.mkdir(parents=True, exist_ok=True)
        self.state = root / "agent-state"
        self.config = root / "agent.toml"
        super().__init__(root / "agent.log")
        self.config.write_text(
            f'[agent]\nstate_dir = "{self.state}"\nspools = ["{self.spool}"]\n'
            f"watch = {'true' if watch else 'false'}\n"
            f'[server]\nurl = "{server_url}"\nkey = "{key}"\n' + extra_config
        )
        self.config.chmod(0o600)

    def start(self) -> None:
        """Start the process without waiting for it."""
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *self.prefix,
                    services_python(),
                    "-m",
                    "tracker_agent.cli",
                    "run",
                    "--config",
                    str(self.config),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=os.environ | self.environment,
            )

    def delete_state(self) -> None:
        """Remove the whole state directory."""
        shutil.rmtree(self.state, ignore_errors=True)

    def status(self) -> dict[str, Any] | None:
        """Return what `tracker-agent status --json` prints, or None while no agent answers."""
        done = subprocess.run(
            [
                services_python(),
                "-m",
                "tracker_agent.cli",
                "status",
                "--json",
                "--state-dir",
                str(self.state),
            ],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=30,
            check=False,
        )
        return json.loads(done.stdout) if done.returncode == 0 else None


def training_environment(spool: Path, **more: str) -> dict[str, str]:
    """Return the environment of a training process that writes into that spool."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TRACKER_")}
    return {**environment, **ALONE, "TRACKER_DIR": str(spool), **more}
