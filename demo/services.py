"""The demo's server and agent: real processes, each with its files in the demo's directory."""

import json
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

START_TIMEOUT_S = 60
STOP_TIMEOUT_S = 15
PORTS_TRIED = 50
HTTP_TIMEOUT_S = 30
LOG_LINES_SHOWN = 20


class ServiceError(Exception):
    """A service did not start, died, or answered something unexpected."""


class Service:
    """A process that runs while the `with` block does, its output in <directory>/<name>.log."""

    name: str

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.log = directory / f"{self.name}.log"
        self.process: subprocess.Popen[bytes] | None = None

    def command(self) -> list[str]:
        """Return what to start."""
        raise NotImplementedError

    def is_ready(self) -> bool:
        """Return whether the process does its work by now."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        with self.log.open("ab") as log:
            # A session of its own: Ctrl-C reaches the demo alone, which stops the services in order.
            self.process = subprocess.Popen(
                self.command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            wait_until(self._is_up, START_TIMEOUT_S, f"the {self.name} to be ready (see {self.log})")
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self.stop()

    def _is_up(self) -> bool:
        self.check()
        return self.is_ready()

    def check(self) -> None:
        """Raise if the process has ended."""
        assert self.process is not None
        if self.process.poll() is not None:
            tail = "\n".join(self.log.read_text(errors="replace").splitlines()[-LOG_LINES_SHOWN:])
            raise ServiceError(
                f"the {self.name} ended with code {self.process.returncode}; its log ends:\n{tail}"
            )

    def stop(self) -> None:
        """Ask the process to end, and make sure that it does."""
        assert self.process is not None
        self.process.terminate()
        try:
            self.process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Server(Service):
    """tracker-server on the loopback interface."""

    name = "server"

    def __init__(self, directory: Path, port: int) -> None:
        super().__init__(directory)
        self.data = directory / "server"
        self.port = port
        self.url = f"http://127.0.0.1:{port}"

    def command(self) -> list[str]:
        """Return what to start."""
        return [
            program("tracker-server"),
            "run",
            "--data",
            str(self.data),
            "--host",
            "127.0.0.1",
            "--port",
            str(self.port),
        ]

    def is_ready(self) -> bool:
        """Return whether it takes requests."""
        try:
            with urllib.request.urlopen(f"{self.url}/readyz", timeout=HTTP_TIMEOUT_S) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False

    def get(self, path: str) -> Any:
        """Return the JSON that the public API answers, asked with the admin key of the first start."""
        key = (self.data / "admin-key").read_text().strip()
        request = urllib.request.Request(f"{self.url}{path}", headers={"Authorization": f"Bearer {key}"})
        with urllib.request.urlopen(request, timeout=HTTP_TIMEOUT_S) as answer:
            return json.load(answer)

    def ensure_agent_key(self) -> str:
        """Return an API key that may only send, the same at every start."""
        kept = self.data / "demo-agent-key"
        if not kept.exists():
            key = self._ask(r"tk_\S+", "key", "create", "--name", "demo-agent", "--scopes", "ingest")
            kept.touch(mode=0o600)
            kept.write_text(key)
        return kept.read_text()

    def sign_in_link(self) -> str:
        """Return a link that signs a browser in, once."""
        return self._ask(r"https?://\S+", "signin-link", "--url", self.url)

    def _ask(self, pattern: str, *arguments: str) -> str:
        done = subprocess.run(
            [program("tracker-server"), *arguments, "--data", str(self.data)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        found = re.search(pattern, done.stdout)
        if done.returncode != 0 or found is None:
            raise ServiceError(f"tracker-server {' '.join(arguments)} failed:\n{done.stdout}{done.stderr}")
        return found.group()


class Agent(Service):
    """tracker-agent on a spool of its own."""

    name = "agent"

    def __init__(self, directory: Path, server_url: str, key: str) -> None:
        super().__init__(directory)
        self.spool = directory / "spool"
        self.spool.mkdir(parents=True, exist_ok=True)
        self.config = directory / "agent.toml"
        self.config.touch(mode=0o600)
        self.config.write_text(
            "[agent]\n"
            f"state_dir = {json.dumps(str(directory / 'agent'))}\n"
            f"spools = [{json.dumps(str(self.spool))}]\n"
            "[server]\n"
            f"url = {json.dumps(server_url)}\n"
            f"key = {json.dumps(key)}\n"
        )

    def command(self) -> list[str]:
        """Return what to start."""
        return [program("tracker-agent"), "run", "--config", str(self.config)]

    def is_ready(self) -> bool:
        """Return whether it has told trainings of itself."""
        assert self.process is not None
        try:
            told = json.loads((self.spool / "agent.json").read_text())
        except (FileNotFoundError, json.JSONDecodeError):
            return False
        return bool(told.get("pid") == self.process.pid)


def program(name: str) -> str:
    """Return the path of a program that is installed beside this Python."""
    found = shutil.which(name, path=str(Path(sys.executable).parent))
    if found is None:
        raise ServiceError(f"{name} is not installed beside {sys.executable}; run `make demo`")
    return found


def free_port(first: int) -> int:
    """Return the first port from `first` on that can be listened to on the loopback interface."""
    for port in range(first, first + PORTS_TRIED):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise ServiceError(f"no free port between {first} and {first + PORTS_TRIED - 1}")


def wait_until(condition: Callable[[], bool], timeout_s: float, what: str) -> None:
    """Return when the condition holds; raise ServiceError when it does not in time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise ServiceError(f"waited {timeout_s:.0f} s in vain for {what}")
        time.sleep(0.05)
