"""ServiceProcess: a real long-running process of ours that tests start, kill and restart."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Self


def services_python() -> str:
    """Return the interpreter that has agent and server: not ours where tests run among other libraries."""
    return os.environ.get("TEST_SERVICES_PYTHON") or sys.executable


class ServiceProcess:
    """What agent and server have in common. start() is each one's own. Use as a context manager."""

    def __init__(self, log_path: Path) -> None:
        self.log_path = log_path
        self.process: subprocess.Popen[bytes] | None = None
        #: What the command starts with (nsenter, unshare …), and what its environment has besides ours.
        self.prefix: tuple[str, ...] = ()
        self.environment: dict[str, str] = {}
        self.kills = 0

    def start(self) -> None:
        """Start the process."""
        raise NotImplementedError

    def kill(self) -> None:
        """SIGKILL the process and reap it."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(30)
        self.kills += 1

    def stop(self) -> int:
        """SIGTERM the process; return its exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)

    def log(self) -> str:
        """Return everything the process wrote to its log so far."""
        return self.log_path.read_text(errors="replace")

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.process is not None and self.process.poll() is None:
            try:
                self.stop()
            except subprocess.TimeoutExpired:
                self.kill()
