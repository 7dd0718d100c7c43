"""A real tracker-server process on a free port with a data directory of its own."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

from tests.support.service_process import ServiceProcess, services_python

START_S = 60.0


class ServerError(AssertionError):
    """The server answered with an error status, or did not start."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"status {status}: {text}")
        self.status = status
        self.text = text


def free_port() -> int:
    """Return a port nothing listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


class ServerProcess(ServiceProcess):
    """Starts, kills and restarts one server on the same port. Use as a context manager."""

    def __init__(self, root: Path, port: int | None = None, arguments: tuple[str, ...] = ()) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self.data = root / "data"
        super().__init__(root / "server.log")
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._arguments = arguments
        self._ingest_key: str | None = None

    # --- life ---

    def start(self, wait: bool = True) -> None:
        """Start the process; with `wait` return when it answers."""
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *self.prefix,
                    *(services_python(), "-m", "tracker_server.cli", "run", "--data", str(self.data)),
                    *("--host", "127.0.0.1", "--port", str(self.port), *self._arguments),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={name: v for name, v in os.environ.items() if not name.startswith("TRACKER_SERVER_")}
                | self.environment,
            )
        if wait:
            self.wait_until_ready()

    def wait_until_ready(self) -> None:
        """Return when the server serves requests."""
        deadline = time.monotonic() + START_S
        while True:
            assert self.process is not None
            if self.process.poll() is not None:
                raise ServerError(self.process.returncode, f"the server ended:\n{self.log()}")
            try:
                self.request("GET", "/readyz", key="")
                return
            except (ServerError, OSError) as error:
                if time.monotonic() > deadline:
                    raise ServerError(0, f"not ready after {START_S} s ({error}):\n{self.log()}") from error
            time.sleep(0.02)

    # --- keys ---

    @property
    def admin_key(self) -> str:
        """The key made at first start."""
        return (self.data / "admin-key").read_text().strip()

    @property
    def ingest_key(self) -> str:
        """A key of a service account `agents`, as an agent has one."""
        if self._ingest_key is None:
            self._ingest_key = self.command(
                "key", "create", "--name", "agent", "--scopes", "ingest", "--service", "agents"
            )
        return self._ingest_key

    def new_key(self, principal: str, scopes: tuple[str, ...] = ("ingest",), entity: str = "default") -> str:
        """Return a key of a new user. The entity is made where there is none yet."""
        made = {"entity": entity, "name": principal, "kind": "user"}
        self.request("POST", "/api/v1/principals", made)
        wanted = {"entity": entity, "principal": principal, "name": "test", "scopes": list(scopes)}
        key: str = self.request("POST", "/api/v1/keys", wanted)["key"]
        return key

    def signin_link(self) -> str:
        """Return a one-time sign-in link."""
        return self.command("signin-link", "--url", self.url)

    def command(self, *arguments: str) -> str:
        """Run another `tracker-server` command on the data directory; return what it prints."""
        verb = 2 if arguments[0] == "key" else 1
        done = subprocess.run(
            [
                *(services_python(), "-m", "tracker_server.cli", *arguments[:verb]),
                *("--data", str(self.data), *arguments[verb:]),
            ],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        if done.returncode:
            raise ServerError(done.returncode, done.stderr)
        return done.stdout.strip()

    # --- requests ---

    def get(self, path: str, params: Any = None, key: str | None = None) -> Any:
        """Return the JSON at a path. Raise ServerError unless the status is 2xx."""
        query = f"?{urllib.parse.urlencode(params, doseq=True)}" if params else ""
        return self.request("GET", path + query, key=key)

    def try_get(self, path: str, params: Any = None, key: str | None = None) -> Any:
        """Return the JSON at a path, or None where the status is 404."""
        try:
            return self.get(path, params, key)
        except ServerError as error:
            if error.status == 404:
                return None
            raise

    def request(self, method: str, path: str, body: Any = None, key: str | None = None) -> Any:
        """Send JSON and return JSON. key: the admin key when None, no credentials when empty."""
        headers = {"Content-Type": "application/json"} if body is not None else {}
        key = self.admin_key if key is None else key
        if key:
            headers["Authorization"] = f"Bearer {key}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, headers, method=method)
        try:
            with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(
                request, timeout=30
            ) as answer:
                return json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as error:
            with error:
                raise ServerError(error.code, error.read().decode(errors="replace")) from error
