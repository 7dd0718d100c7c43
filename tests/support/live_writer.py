"""A process that writes one stream and lives until it is told to come to its end: quick to start."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = """
import ctypes, os, sys, time
from tracker.protocol import bodies, identity, kinds
from tracker.protocol.header import Header
from tracker.protocol.writer import StreamWriter
directory, run, stop, role = sys.argv[1:5]
header = Header(
    os.urandom(16), run, 0, 0, identity.machine_id(), identity.boot_id(), os.getpid(), time.time_ns(),
    time.monotonic_ns(), "tests/1", stop=True if stop else None, role=role or None,
)
writer = StreamWriter(directory, header)
writer.write(kinds.RUN, bodies.Run(time.time_ns(), {"project": "p"}).encode())
print(header.stream.hex(), flush=True)
sys.stdin.readline()
"""


class LiveWriter:
    """A live writer of a run directory, as a context manager. end: Python code that go_on() lets it run."""

    def __init__(
        self,
        directory: Path,
        *,
        end: str = "",
        stop: bool = False,
        role: str = "",
        cgroup: Path | None = None,
    ) -> None:
        enter = ""
        if cgroup is not None:
            enter = f"import os\nopen({str(cgroup / 'cgroup.procs')!r}, 'w').write(str(os.getpid()))\n"
        self.directory = directory
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-c",
                enter + SCRIPT + end,
                str(directory),
                directory.name,
                "stop" if stop else "",
                role,
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'shim' / 'src'}"},
        )
        assert self.process.stdout is not None
        self.stream = bytes.fromhex(self.process.stdout.readline().decode())

    def go_on(self) -> None:
        """Let it come to its end."""
        assert self.process.stdin is not None
        self.process.stdin.write(b"\n")
        self.process.stdin.flush()

    def kill(self) -> None:
        """Kill it, and wait until it is gone."""
        self.process.kill()
        self.process.wait()

    def __enter__(self) -> LiveWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()
