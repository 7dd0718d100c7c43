"""ShiftedClock: a wall clock that a test moves, for the processes it starts and for nobody else."""

from __future__ import annotations

import mmap
import struct
import subprocess
from pathlib import Path

from tests.support import require

SOURCE = Path(__file__).with_suffix(".c")


class ShiftedClock:
    """Start processes with `environment`; then jump() moves the wall clock of all of them at once."""

    def __init__(self, directory: Path) -> None:
        library, file = directory / "shifted_clock.so", directory / "shifted_clock"
        subprocess.run(
            [require.program("gcc"), "-O1", "-shared", "-fPIC", "-o", library, SOURCE, "-ldl"],
            check=True,
            capture_output=True,
        )
        file.write_bytes(bytes(16))
        with file.open("r+b") as opened:
            self._told = mmap.mmap(opened.fileno(), 16)
        self.environment = {"LD_PRELOAD": str(library), "SHIFTED_CLOCK": str(file)}
        self._offset_ns = 0
        self._overflows = 0

    def jump(self, seconds: float) -> None:
        """Set the clock that far from the true time."""
        self._offset_ns = int(seconds * 1e9)
        self._tell()

    def overflow(self) -> None:
        """Let the next events of each process's inotify be lost, as when its queue overflows."""
        self._overflows += 1
        self._tell()

    def _tell(self) -> None:
        self._told[:] = struct.pack("=qq", self._offset_ns, self._overflows)
