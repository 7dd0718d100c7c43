"""What tests of the console share: scripts on terminals and other outputs, and the lines recorded of them."""

import contextlib
import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.shim.scripts import environment, reading
from tracker.protocol import kinds

ROWS, COLUMNS = 33, 77


def recording_environment(spool: Path, **more: str) -> dict[str, str]:
    """Return the environment of a script whose console is recorded."""
    given = {"TRACKER_DIR": str(spool), "TRACKER_CONSOLE": "redirect", "TRACKER_SILENT": "1"}
    return environment(**{**given, **more})


def start(script: str, spool: Path, *arguments: str, **options: Any) -> subprocess.Popen[bytes]:
    """Start a script; `options` are those of Popen; stdout and stderr are pipes where not given."""
    options.setdefault("stdout", subprocess.PIPE)
    options.setdefault("stderr", subprocess.PIPE)
    more = options.pop("more", {})
    command = [sys.executable, "-c", textwrap.dedent(script), *arguments]
    return subprocess.Popen(command, env=recording_environment(spool, **more), **options)


@contextlib.contextmanager
def started() -> Iterator[Callable[..., "subprocess.Popen[bytes]"]]:
    """Give a start() of which nothing is left afterwards."""
    processes: list[subprocess.Popen[bytes]] = []

    def begin(*arguments: Any, **options: Any) -> "subprocess.Popen[bytes]":
        processes.append(start(*arguments, **options))
        return processes[-1]

    try:
        yield begin
    finally:
        for process in processes:
            end(process)


def end(process: "subprocess.Popen[bytes]") -> None:
    """Kill a process, and close what led to it."""
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()


def run(script: str, spool: Path, *arguments: str, code: int = 0, **options: Any) -> tuple[bytes, bytes]:
    """Run a script to its end, and until nobody has its output any more; return what was shown."""
    process = start(script, spool, *arguments, **options)
    out, err = process.communicate(timeout=60)
    assert process.returncode == code, (process.returncode, err)
    return out or b"", err or b""


def recorded(spool: Path, run_id: str | None = None) -> dict[str, list[str]]:
    """Return the recorded lines of each stream, in order."""
    lines: dict[str, list[str]] = {"stdout": [], "stderr": []}
    for stream in reading(spool):
        if run_id in (None, stream.header.run):
            for record in stream.of(kinds.CONSOLE):
                lines[record.stream] += record.lines
    return lines


def losses(spool: Path) -> dict[str, int]:
    """Return what the streams say was lost, by reason."""
    found: dict[str, int] = {}
    for stream in reading(spool):
        for record in stream.of(kinds.LOST):
            found[record.reason] = found.get(record.reason, 0) + record.records
    return found


def wait_until(condition: Callable[[], Any], timeout_s: float = 30.0) -> Any:
    """Wait for something to be true; return it."""
    deadline = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.02)
    return found


def holders(path: str) -> list[int]:
    """Return the processes that have a file open, by what /proc calls it; not this one."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            links = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
            if path in links and int(pid) != os.getpid():
                found.append(int(pid))
    return found


def parent_of(pid: int) -> int:
    """Return a process's parent, 0 where it has gone."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


class Terminal:
    """A terminal with a program on it, that leads a session there."""

    def __init__(self, command: list[str], environ: dict[str, str], foreground: bool = True) -> None:
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("4H", ROWS, COLUMNS, 0, 0))
        self.name = os.ttyname(slave)

        def take_terminal() -> None:
            os.setsid()
            if foreground:
                fcntl.ioctl(slave, termios.TIOCSCTTY, 0)

        self.process = subprocess.Popen(
            command, stdin=slave, stdout=slave, stderr=slave, env=environ, preexec_fn=take_terminal
        )
        os.close(slave)
        self.shown = b""

    def read(self, timeout_s: float = 0.0) -> bool:
        """Take in what is shown; False once nobody has the terminal any more."""
        while select.select([self.master], [], [], timeout_s)[0]:
            try:
                data = os.read(self.master, 65536)
            except OSError:
                return False
            if not data:
                return False
            self.shown += data
            timeout_s = 0.0
        return True

    def read_to_end(self, timeout_s: float = 60.0) -> bytes:
        """Return all that was shown, once nobody has the terminal any more."""
        deadline = time.monotonic() + timeout_s
        while self.read(0.1):
            assert time.monotonic() < deadline, self.shown
        return self.shown

    def wait_for(self, text: bytes) -> None:
        """Wait until something is shown."""
        deadline = time.monotonic() + 30
        while text not in self.shown:
            alive = self.read(0.1)
            assert alive and time.monotonic() < deadline, self.shown

    def type(self, keys: bytes) -> None:
        """Press keys."""
        os.write(self.master, keys)

    def resize(self, rows: int, columns: int) -> None:
        """Change the size of the window."""
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))

    def close(self) -> None:
        """Hang up."""
        with contextlib.suppress(OSError):
            os.close(self.master)
        self.process.kill()
        self.process.wait()
