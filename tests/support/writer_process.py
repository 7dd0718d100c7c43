"""A stream's writer in a process of its own, so that its lock is seen as a lock.

python -m tests.support.writer_process DIRECTORY RUN RECORDS [SEGMENT_BYTES [TEXT_BYTES]]

Prints the stream's id once the records are written; each further line on stdin is one more record, its end
an EXIT.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tracker.protocol import bodies, kinds
from tracker.protocol.header import Header
from tracker.protocol.identity import boot_id, machine_id
from tracker.protocol.writer import StreamWriter

ROOT = Path(__file__).resolve().parents[2]


def main(directory: str, run: str, records: int, segment_bytes: int = 2**26, text_bytes: int = 4) -> None:
    stream, now, clock = os.urandom(16), time.time_ns(), time.monotonic_ns()
    header = Header(stream, run, 0, 0, machine_id(), boot_id(), os.getpid(), now, clock, "tests/1")
    writer = StreamWriter(directory, header, segment_bytes)
    writer.write(kinds.RUN, bodies.Run(time.time_ns(), {"project": "p"}).encode())

    def write(step: int) -> None:
        writer.write(kinds.METRICS, bodies.Metrics(time.time_ns(), step, {"x" * text_bytes: 0.5}).encode())

    for step in range(records):
        write(step)
    print(stream.hex(), flush=True)
    for _ in sys.stdin:
        write(records)
        records += 1
        print(writer.position, flush=True)
    writer.write(kinds.EXIT, bodies.Exit(time.time_ns(), 0).encode())
    writer.close()


class WriterProcess:
    """Starts it. before: what the child does first, such as becoming another user."""

    def __init__(
        self, directory: Path, run: str, *numbers: int, before: Callable[[], None] | None = None
    ) -> None:
        command = [sys.executable, "-m", "tests.support.writer_process", str(directory), run]
        self.process = subprocess.Popen(
            [*command, *map(str, numbers)],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            preexec_fn=before,
        )
        assert self.process.stdin is not None and self.process.stdout is not None
        self.stream = bytes.fromhex(self.process.stdout.readline().decode().strip())

    def write(self) -> int:
        """Write one more record; return the position behind it."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(b"\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def finish(self) -> None:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait(30)
        self.process.stdout.close()

    def __enter__(self) -> WriterProcess:
        return self

    def __exit__(self, *_: object) -> None:
        assert self.process.stdin is not None and self.process.stdout is not None
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(30)
        self.process.stdin.close()
        self.process.stdout.close()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:]))
