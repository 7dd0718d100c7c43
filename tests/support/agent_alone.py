"""An agent by itself: a process on directories of its own, with no server unless a test gives it one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.support.agent_process import wait_until
from tracker.protocol.codec import Seeds, scan_lines
from tracker.protocol.header import read_header

COMMAND = [sys.executable, "-m", "tracker_agent.cli"]


class AgentAlone:
    """One agent on directories of its own, with no server at the other end unless a test has one."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.state = root / "state"
        self.spool = root / "spool"
        self.spool.mkdir()
        self.config = root / "agent.toml"
        self.environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("TRACKER_", "XDG_")) and name not in ("NOTIFY_SOCKET", "WATCHDOG_USEC")
        }
        #: What starts `tracker-agent`: tests may have a program that breaks something first.
        self.command = COMMAND
        self.started: list[subprocess.Popen[str]] = []
        self.write_config()

    def write_config(self, server: str = "http://127.0.0.1:9", more: str = "") -> None:
        self.config.write_text(
            f'[agent]\nstate_dir = "{self.state}"\nspools = ["{self.spool}"]\nlog_format = "json"\n'
            f'[server]\nurl = "{server}"\nkey = "tk_abcdefgh_{"s" * 43}"\n{more}'
        )
        self.config.chmod(0o600)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        with (self.root / "log").open("a") as log:
            process = subprocess.Popen(
                [*self.command, "run", *(arguments or ("--config", str(self.config)))],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                text=True,
            )
        self.started.append(process)
        return process

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*COMMAND, *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def status(self) -> dict[str, Any] | None:
        done = self.run("status", "--json", "--state-dir", str(self.state))
        return json.loads(done.stdout) if done.returncode == 0 else None

    def wait_for_status(self) -> dict[str, Any]:
        status: dict[str, Any] = wait_until(self.status, what="a status")
        return status

    def log(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.root / "log").read_text().splitlines()]

    def said(self, message: str) -> list[dict[str, Any]]:
        return [line for line in self.log() if message in line["message"]]

    def own_records(self) -> list[tuple[int, bytes]]:
        """Return (kind, body) of everything in the agent's own streams."""
        records = []
        for segment in sorted((self.state / "streams").glob("*/*.mpl")):
            content = segment.read_bytes()
            header, end = read_header(content)
            scanned = scan_lines(content[end:], Seeds(header.stream, header.segment))
            assert not scanned.bad
            records += [(kind, body) for kind, _, body in scanned.lines]
        return records

    def end(self) -> None:
        """Kill what still runs."""
        for process in self.started:
            if process.poll() is None:
                process.kill()
            process.wait(30)
