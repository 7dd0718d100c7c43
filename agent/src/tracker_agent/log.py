"""The agent's log: for people on a terminal, JSON lines for journald and pipes. Always on stderr.

Whoever reads the log must not be able to stop the agent: where stderr does not take a line, the line is
dropped and counted. The last lines are kept in memory, for the support bundle.
"""

from __future__ import annotations

import json
import logging
import os
import select
import time
from collections import deque
from collections.abc import MutableMapping
from typing import Any

import structlog
from structlog.typing import FilteringBoundLogger

from . import systemd
from .log_flood import FloodGate

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}
_JOURNAL_PRIORITY = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}
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
        self.dropped = 0
        self.recent: deque[str] = deque(maxlen=RECENT_LINES_MAX)

    def msg(self, line: str) -> None:
        """Write one line, or drop it."""
        self.recent.append(line[:RECENT_CHARACTERS_MAX])
        data = line.encode("utf-8", "backslashreplace") + b"\n"
        poll = select.poll()
        poll.register(self._fd, select.POLLOUT)
        try:
            while data:
                if not poll.poll(_PATIENCE_MS):
                    self.dropped += 1
                    return
                data = data[os.write(self._fd, data[:_PIECE_BYTES]) :]
        except OSError:
            self.dropped += 1

    log = debug = info = warning = warn = error = critical = exception = fatal = failure = msg


class Log:
    """Configures structlog, and what libraries log, once per process. level can be changed later."""

    def __init__(
        self,
        log_format: str,
        level: str,
        environment: MutableMapping[str, str],
        output: LogOutput | None = None,
    ) -> None:
        self.output = output or LogOutput()
        self.flood = FloodGate(time.monotonic)
        self._least = LEVELS[level]
        journal = systemd.journal_reads(2, environment)
        console = log_format == "console" or (log_format == "auto" and os.isatty(2))
        processors: list[Any] = [
            self._drop_below_level,
            structlog.contextvars.merge_contextvars,
            self._drop_floods,
            structlog.processors.add_log_level,
        ]
        if console:
            processors += [
                structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False),
                structlog.dev.ConsoleRenderer(
                    colors=os.isatty(2), exception_formatter=structlog.dev.plain_traceback
                ),
            ]
        else:
            processors += [
                structlog.processors.TimeStamper(fmt="iso", utc=True),
                structlog.processors.format_exc_info,
                structlog.processors.EventRenamer("message"),
                _render_for_journal if journal else structlog.processors.JSONRenderer(default=str),
            ]
        structlog.configure(
            processors=processors,
            wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG),
            logger_factory=lambda *_: self.output,
            cache_logger_on_first_use=False,
        )
        self.logger: FilteringBoundLogger = structlog.get_logger()
        root = logging.getLogger()
        root.handlers[:] = [_FromLibraries(self.logger)]
        root.setLevel(logging.WARNING)

    def set_level(self, level: str) -> None:
        """Change the least important thing that is logged."""
        self._least = LEVELS[level]

    def _drop_below_level(
        self, _logger: object, method: str, event: MutableMapping[str, Any]
    ) -> MutableMapping[str, Any]:
        if LEVELS.get(method, 40) < self._least:
            raise structlog.DropEvent
        return event

    def _drop_floods(
        self, _logger: object, method: str, event: MutableMapping[str, Any]
    ) -> MutableMapping[str, Any]:
        """Let complaints through the gate. What else is said follows on something somebody did."""
        if LEVELS.get(method, 40) < LEVELS["warning"]:
            return event
        details = {name: value for name, value in event.items() if name != "event"}
        # What a library says is different each time; which library it is, is not.
        message = str(event.get("library") or event.get("event"))
        left_out = self.flood.admit(message, {**details, "event": event.get("event")})
        if left_out is None:
            raise structlog.DropEvent
        if left_out:
            event["left_out"] = left_out
        return event


def _render_for_journal(_logger: Any, method: str, event: MutableMapping[str, Any]) -> str:
    """Return JSON behind the prefix by which journald learns the priority (sd-daemon(3))."""
    priority = _JOURNAL_PRIORITY.get(method, 6)
    return f"<{priority}>{json.dumps(event, default=str)}"


class _FromLibraries(logging.Handler):
    """Passes on what libraries log through the standard library."""

    def __init__(self, logger: FilteringBoundLogger) -> None:
        super().__init__()
        self._logger = logger

    def emit(self, record: logging.LogRecord) -> None:
        method = "error" if record.levelno >= logging.ERROR else "warning"
        getattr(self._logger, method)(record.getMessage(), library=record.name, exc_info=record.exc_info)
