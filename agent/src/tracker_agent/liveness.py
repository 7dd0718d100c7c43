"""Whether the writer of a stream is alive: its lock is the truth, a pidfd tells at once when to look.

The kernel drops a POSIX lock at its owner's death, whatever the cause, and F_GETLK names the owner as this
process sees it, across pid namespaces. A pidfd becomes readable when the process dies, so that nobody has
to poll for it; where there are too many, or the process cannot be seen, the lock is asked now and then.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable


class Deaths:
    """Calls back in the event loop when a process dies. One pidfd per process, at most pidfds_max."""

    def __init__(self, pidfds_max: int, died: Callable[[int], None]) -> None:
        self._pidfds_max = pidfds_max
        self._died = died
        self._pidfds: dict[int, int] = {}

    def watch(self, pid: int) -> bool:
        """Start watching a process. False: it cannot be watched, so keep asking its lock.

        Look at the lock once more afterwards: the pid may have been another process's by now.
        """
        if pid in self._pidfds:
            return True
        if pid <= 0 or len(self._pidfds) >= self._pidfds_max:
            return False
        try:
            pidfd = os.pidfd_open(pid)
        except (OSError, AttributeError):
            return False
        self._pidfds[pid] = pidfd
        asyncio.get_running_loop().add_reader(pidfd, self._readable, pid)
        return True

    def _readable(self, pid: int) -> None:
        self.forget(pid)
        self._died(pid)

    def forget(self, pid: int) -> None:
        """Stop watching a process."""
        pidfd = self._pidfds.pop(pid, None)
        if pidfd is not None:
            asyncio.get_running_loop().remove_reader(pidfd)
            os.close(pidfd)

    def __contains__(self, pid: int) -> bool:
        return pid in self._pidfds

    def __len__(self) -> int:
        return len(self._pidfds)

    def close(self) -> None:
        """Stop watching all."""
        for pid in list(self._pidfds):
            self.forget(pid)
