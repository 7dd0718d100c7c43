"""How a process ended that is not our child: its wait status, where the kernel tells us.

A pidfd held since before the end tells it once the process is reaped (PIDFD_GET_INFO, Linux 6.15), and
/proc/<pid>/stat while it is not, to root and the like. Elsewhere only its parent knows.
"""

from __future__ import annotations

import fcntl
import os
import signal
import struct
from dataclasses import dataclass

#: _IOWR(0xFF, 11, struct pidfd_info) of 64 bytes.
_PIDFD_GET_INFO = 0xC040FF0B
_PIDFD_INFO_EXIT = 1 << 3
_PIDFD_INFO = struct.Struct("=QQ11Ii")
#: From here on a pidfd tells how its process ended.
_KERNEL_MIN = (6, 15)


@dataclass(frozen=True, slots=True)
class ExitStatus:
    """A wait status, taken apart. Exactly one of code and signal is set."""

    code: int | None
    signal: int | None
    core: bool
    source: str  #: where it was read

    @property
    def signal_name(self) -> str:
        """Return SIGKILL for 9."""
        assert self.signal is not None
        try:
            return signal.Signals(self.signal).name
        except ValueError:
            return f"signal {self.signal}"


def parse_status(status: int, source: str) -> ExitStatus:
    """Take a wait status apart."""
    if os.WIFSIGNALED(status):
        return ExitStatus(None, os.WTERMSIG(status), os.WCOREDUMP(status), source)
    return ExitStatus(os.WEXITSTATUS(status), None, False, source)


def pidfds_tell(release: str) -> bool:
    """Return whether a kernel of that release tells by a pidfd how a process ended."""
    major, _, rest = release.partition(".")
    minor = "".join(c if c.isdigit() else " " for c in rest).split(" ")[0]
    return major.isdigit() and minor.isdigit() and (int(major), int(minor)) >= _KERNEL_MIN


def read_by_pidfd(pidfd: int) -> ExitStatus | None:
    """Return how the process of a pidfd ended, None while it is not reaped or where nobody tells."""
    info = bytearray(_PIDFD_INFO.size)
    struct.pack_into("=Q", info, 0, _PIDFD_INFO_EXIT)
    try:
        fcntl.ioctl(pidfd, _PIDFD_GET_INFO, info)
    except OSError:
        return None
    mask, *_, status = _PIDFD_INFO.unpack(info)
    return parse_status(status, "pidfd") if mask & _PIDFD_INFO_EXIT else None


def read_zombie(stat: str) -> ExitStatus | None:
    """Return how a process ended that nobody has reaped, from the text of its /proc/<pid>/stat."""
    fields = stat_fields(stat)
    if len(fields) < 50 or fields[0] not in ("Z", "X"):
        return None
    # To those who may not know, the kernel shows 0: a clean end of a writer without EXIT is none.
    status = int(fields[49])
    return parse_status(status, "zombie") if status else None


def stat_fields(stat: str) -> list[str]:
    """Return the fields of /proc/<pid>/stat from the third, its state, on; the second may hold anything."""
    return stat.rpartition(")")[2].split()
