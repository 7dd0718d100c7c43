"""Errors and signals injected into the system calls of a running process, for as long as a with-block lasts.

strace does it: the kernel never sees the call, the process sees the error. On leaving, strace lets go and the
process goes on unharmed.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support import require

ATTACH_S = 20.0
LET_GO_S = 0.5


@contextmanager
def injected(pid: int, rules: list[str], paths: list[Path] = []) -> Iterator[subprocess.Popen[str]]:  # noqa: B006
    """Apply strace rules such as "write,fsync:error=EIO" or "pwrite64:signal=KILL:when=7" to a process.

    paths: only to calls about these files. Root, or the process's own user with the right to trace.
    """
    strace = require.program("strace")
    command = [strace, "-f", "-p", str(pid), "-o", "/dev/null", "-e", "trace=" + _calls(rules)]
    for rule in rules:
        command += ["-e", f"inject={rule}"]
    for path in paths:
        command += ["-P", str(path)]
    tracer = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    try:
        _wait_until_attached(tracer, pid)
        yield tracer
    finally:
        # Asked to end, it lets go of a living process cleanly; of one that was killed it may await news.
        tracer.terminate()
        try:
            tracer.wait(LET_GO_S)
        except subprocess.TimeoutExpired:
            tracer.kill()
            tracer.wait(10)
        assert tracer.stderr is not None
        tracer.stderr.close()


def _calls(rules: list[str]) -> str:
    return ",".join(rule.partition(":")[0] for rule in rules)


def _wait_until_attached(tracer: subprocess.Popen[str], pid: int) -> None:
    """Return when every thread of the process is traced."""
    deadline = time.monotonic() + ATTACH_S
    while time.monotonic() < deadline:
        if tracer.poll() is not None:
            assert tracer.stderr is not None
            raise AssertionError(f"strace ended: {tracer.stderr.read()}")
        threads = list(Path(f"/proc/{pid}/task").iterdir())
        if all(f"TracerPid:\t{tracer.pid}\n" in (each / "status").read_text() for each in threads):
            return
        time.sleep(0.01)
    raise AssertionError(f"strace did not attach to {pid} within {ATTACH_S} s")
