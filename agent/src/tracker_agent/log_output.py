"""Where the lines of the log go: a descriptor whose reader must not be able to stop the agent.

Where it does not take a line, the line is dropped and counted. The last lines are kept in memory, for the
support bundle.
"""

from __future__ import annotations

import os
import select
import threading
from collections import deque
from collections.abc import Sequence

#: Priorities of syslog, by level.
PRIORITY = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}
#: Bytes that a pipe takes whole when it says that it takes any (PIPE_BUF).
_PIECE_BYTES = 4096
_PATIENCE_MS = 100
#: What is kept of the log in memory: so many lines of so many characters at most.
RECENT_LINES_MAX = 1000
RECENT_CHARACTERS_MAX = 2000


class LogOutput:
    """Writes lines to a descriptor without ever waiting for its reader for long."""

    def __init__(self, fd: int = 2) -> None:
        self._fd = fd
        self._count = threading.Lock()
        self.dropped = 0
        self.recent: deque[str] = deque(maxlen=RECENT_LINES_MAX)

    def msg(self, line: str, fields: Sequence[bytes] = ()) -> None:
        """Write one line, or drop it. fields: what the journal is told besides."""
        self.recent.append(line[:RECENT_CHARACTERS_MAX])
        self.write(line, fields)

    log = debug = info = warning = warn = error = critical = exception = fatal = failure = msg

    def write(self, line: str, fields: Sequence[bytes]) -> None:  # noqa: ARG002
        """Write to the descriptor, which has no fields."""
        data = line.encode("utf-8", "backslashreplace") + b"\n"
        poll = select.poll()
        poll.register(self._fd, select.POLLOUT)
        try:
            while data:
                if not poll.poll(_PATIENCE_MS):
                    self.drop()
                    return
                data = data[os.write(self._fd, data[:_PIECE_BYTES]) :]
        except OSError:
            self.drop()

    def drop(self) -> None:
        """Count a line that was not written. From any thread."""
        with self._count:
            self.dropped += 1

    def close(self) -> None:
        """Write what was not written yet, if that is quick."""
