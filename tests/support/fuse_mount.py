"""Shows a directory at another place through FUSE (passthrough.py), in a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support import require
from tests.support.agent_process import wait_until


@contextmanager
def passthrough(directory: Path, mount_point: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Show a directory at another place, through FUSE. Stop the process (SIGSTOP) for a mount that hangs."""
    require.program("fusermount3", "fuse3")
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        require.absent("/dev/fuse", "it is not there, or not for this user", "a machine with FUSE")
    mount_point.mkdir(parents=True)
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.support.passthrough", str(directory), str(mount_point)]
    )
    try:
        wait_until(lambda: mount_point.is_mount() or process.poll() is not None, what="the FUSE mount")
        assert process.poll() is None, "the FUSE process ended"
        yield process
    finally:
        process.send_signal(signal.SIGCONT)
        subprocess.run(["fusermount3", "-u", "-z", str(mount_point)], capture_output=True, check=False)
        process.terminate()
        process.wait(10)
