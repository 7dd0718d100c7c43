"""A real forward proxy (proxy.py) in a process of its own, perhaps with a password, perhaps speaking TLS."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from pathlib import Path

from tests.support.server_process import free_port

START_S = 30.0


class ProxyProcess:
    """Starts a proxy on a free port. Use as a context manager."""

    def __init__(self, root: Path, *arguments: str, password: str = "") -> None:
        self.port = free_port()
        self.log = root / f"proxy-{self.port}.log"
        auth = ("--basic-auth", password) if password else ()
        self._arguments = ("--hostname", "127.0.0.1", "--port", str(self.port), *auth, *arguments)
        self._root = root
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Its address, for clients that speak plain HTTP with it."""
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> ProxyProcess:
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "proxy", *self._arguments]
                + ["--num-workers", "1", "--num-acceptors", "1", "--local-executor", "0", "--threadless"]
                + ["--data-dir", str(self._root / "proxy-data")],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + START_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return self
            except OSError:
                assert self._process.poll() is None, self.log.read_text()
                assert time.monotonic() < deadline, self.log.read_text()
                time.sleep(0.02)

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        self._process.terminate()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(5)
