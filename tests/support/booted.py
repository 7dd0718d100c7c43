"""Machines that are booted: systemd as process 1 of a container, each pristine, several side by side.

The root of a Debian release (booted_root.py) is never written to: what a machine changes lies in memory
and is gone with it. A machine has a network of its own, with its own 127.0.0.1. It ends with stop(), and with
the process that booted it, however that one ends (booted_keeper.py).
"""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self, TypeVar

from tests.support.booted_keeper import groups_of
from tests.support.booted_root import bootable_root
from tests.support.server_process import ServerError

KEEPER = Path(__file__).with_name("booted_keeper.py")
SHIM = Path(__file__).parents[2] / "shim/src"
#: Where the shim lies in a machine: a training's environment is its own, not that of the packages.
SHIM_INSIDE = "/training"
COMMAND_S = 120.0
_ENVIRONMENT = ("env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8", "HOME=/root", "TERM=dumb")
_ENTER = 'while [ "$1" != -- ]; do echo $$ >"$1"; shift; done; shift; exec "$@"'
_CLONE_NEWNET = 0x40000000
_Result = TypeVar("_Result")


def boot(release: str = "bookworm", bring: Mapping[Path, str] | None = None) -> Machine:
    """Boot a machine. bring: directories of this one, and where they are seen (read-only) inside."""
    return Machine(release, dict(bring or {}))


class Machine:
    """A booted machine. Use it as a context manager, or call stop()."""

    def __init__(self, release: str, bring: Mapping[Path, str]) -> None:
        self.release = release
        self._network = ThreadPoolExecutor(1, "machine-network", self._enter_network)
        options = [f"--bind-ro={outside}:{inside}" for outside, inside in bring.items()]
        self._console = tempfile.TemporaryFile()  # noqa: SIM115 (as long as the machine)
        self._process = subprocess.Popen(
            # A copy of the shim that everybody may read: the checkout may be closed to other users.
            [
                *(sys.executable, KEEPER, bootable_root(release), SHIM, SHIM_INSIDE),
                *("--private-network", *options),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._console,
            text=True,
        )
        assert self._process.stdout is not None
        answer = self._process.stdout.readline()
        if not answer:
            said = self.console()
            self.stop()
            raise AssertionError(f"{release} did not boot:\n{said}")
        #: The pid of the machine's process 1, as this one sees it; and that of its keeper.
        self.leader = int(answer)
        self.keeper = self._process.pid
        self._groups = [str(group / "cgroup.procs") for group in groups_of(self.leader)]

    def console(self) -> str:
        """Return the last of what systemd wrote to the console."""
        self._console.seek(0)
        return self._console.read()[-5000:].decode(errors="replace")

    def stop(self) -> None:
        """End the machine at once, as if the power had gone. Nothing of it is left."""
        if self._process.returncode is None:
            self._network.shutdown()
            self._process.communicate()
            self._console.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    # --- commands and files ---

    def run(
        self,
        *command: str | Path,
        user: str | None = None,
        check: bool = True,
        input: str = "",  # noqa: A002 (as subprocess has it)
        environment: Mapping[str, str] | None = None,
        properties: Mapping[str, str] | None = None,
        timeout_s: float = COMMAND_S,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end: as root, or as a user in a unit of its own with those properties."""
        done = subprocess.run(
            self._command(command, user, environment or {}, properties or {}),
            input=input,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        if check and done.returncode:
            said = f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
            raise AssertionError(f"{self.release}: {command} ended with {done.returncode}:\n{said}")
        return done

    def start(
        self,
        *command: str | Path,
        user: str | None = None,
        environment: Mapping[str, str] | None = None,
        properties: Mapping[str, str] | None = None,
    ) -> subprocess.Popen[str]:
        """Start a command as run() does; return at once. It ends with the machine, or by itself."""
        return subprocess.Popen(
            self._command(command, user, environment or {}, properties or {}),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def _command(
        self,
        command: tuple[str | Path, ...],
        user: str | None,
        environment: Mapping[str, str],
        properties: Mapping[str, str],
    ) -> list[str]:
        # In process 1's control groups, too: newer systemd does not talk to who is in none of its own.
        inside = ["sh", "-c", _ENTER, "enter", *self._groups, "--"]
        inside += ["nsenter", "--target", str(self.leader), "--all", "--", *_ENVIRONMENT]
        if user is None:
            inside += [f"{name}={value}" for name, value in environment.items()]
        else:
            inside += ["systemd-run", "--quiet", "--pipe", "--wait", "--collect", f"--uid={user}"]
            inside += [f"--setenv={name}={value}" for name, value in environment.items()]
            inside += [f"--property={name}={value}" for name, value in properties.items()]
            inside += ["--"]
        return inside + [str(part) for part in command]

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """Write a file, with the directories above it."""
        script = 'umask 077; mkdir -m 755 -p "${1%/*}" && cat >"$1" && chmod "$2" "$1"'
        self.run("sh", "-c", script, "write", path, f"{mode:o}", input=text)

    def read(self, path: str) -> str:
        """Return the text of a file."""
        return self.run("cat", path).stdout

    def copy_in(self, source: Path, target: str) -> None:
        """Copy a file, or a directory with all that is in it, to the path `target`."""
        pack = subprocess.Popen(
            [
                "tar",
                "-C",
                source.parent,
                "--transform",
                f"s,^{source.name},{Path(target).name},",
                "-c",
                source.name,
            ],
            stdout=subprocess.PIPE,
        )
        parent = str(Path(target).parent)
        subprocess.run(
            self._command(
                ("sh", "-c", 'mkdir -p "$1" && tar -C "$1" --no-same-owner -x', "copy", parent), None, {}, {}
            ),
            stdin=pack.stdout,
            check=True,
            timeout=COMMAND_S,
        )
        pack.communicate()
        assert pack.returncode == 0

    # --- units ---

    def journal(self, unit: str) -> list[dict[str, Any]]:
        """Return what journald has of a unit: its own lines and systemd's about it, oldest first."""
        done = self.run("journalctl", "--quiet", "--no-pager", "--output=json", f"--unit={unit}")
        return [json.loads(line) for line in done.stdout.splitlines()]

    def show(self, unit: str, *properties: str) -> dict[str, str]:
        """Return properties of a unit, all where none is named."""
        wanted = [f"--property={name}" for name in properties]
        lines = self.run("systemctl", "show", unit, *wanted).stdout.splitlines()
        return dict(line.split("=", 1) for line in lines if "=" in line)

    # --- network ---

    def request(self, method: str, url: str, body: Any = None, key: str = "") -> Any:
        """Ask a server in the machine's own network; JSON both ways. Raise ServerError as its status says."""
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        data = None if body is None else json.dumps(body).encode()
        if data is not None:
            headers["Content-Type"] = "application/json"
        request = urllib.request.Request(url, data, headers, method=method)

        def ask() -> Any:
            direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            try:
                with direct.open(request, timeout=30) as answer:
                    return json.loads(answer.read() or b"null")
            except urllib.error.HTTPError as error:
                with error:
                    raise ServerError(error.code, error.read().decode(errors="replace")) from error

        return self.within_network(ask)

    def within_network(self, ask: Callable[[], _Result]) -> _Result:
        """Return what ask() does, called by a thread of this process that is in the machine's network."""
        return self._network.submit(ask).result()

    def _enter_network(self) -> None:
        namespace = os.open(f"/proc/{self.leader}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            libc = ctypes.CDLL(None, use_errno=True)
            if libc.setns(namespace, _CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns")
        finally:
            os.close(namespace)
