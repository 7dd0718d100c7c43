"""The agent's log: for people on a terminal, entries with fields for journald, JSON lines for pipes.

Whoever reads the log must not be able to stop the agent: see log_output.py and journal_output.py.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import MutableMapping
from typing import Any

import structlog
from structlog.typing import FilteringBoundLogger

from . import systemd
from .journal_output import JournalOutput, render_entry
from .log_flood import FloodGate
from .log_output import PRIORITY, LogOutput

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}


class Log:
    """Configures structlog, and what libraries log, once per process. level can be changed later."""

    def __init__(
        self,
        log_format: str,
        level: str,
        environment: MutableMapping[str, str],
        output: LogOutput | None = None,
    ) -> None:
        journal = systemd.journal_reads(2, environment)
        wants_fields = journal and log_format == "auto" and output is None
        send = systemd.journal_send() if wants_fields else None
        self.output = output or (LogOutput() if send is None else JournalOutput(send))
        self.flood = FloodGate(time.monotonic)
        self._least = LEVELS[level]
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
        elif send is not None:
            processors += [structlog.processors.format_exc_info, render_entry]
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
        if wants_fields and send is None:
            self.logger.info(
                "the journal gets JSON lines instead of fields, as systemd-python is not installed: "
                "install python3-systemd, or tracker-agent[systemd]"
            )

    def close(self) -> None:
        """Write what was not written yet, if that is quick."""
        self.output.close()

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
    priority = PRIORITY.get(method, 6)
    return f"<{priority}>{json.dumps(event, default=str)}"


class _FromLibraries(logging.Handler):
    """Passes on what libraries log through the standard library."""

    def __init__(self, logger: FilteringBoundLogger) -> None:
        super().__init__()
        self._logger = logger

    def emit(self, record: logging.LogRecord) -> None:
        method = "error" if record.levelno >= logging.ERROR else "warning"
        getattr(self._logger, method)(record.getMessage(), library=record.name, exc_info=record.exc_info)
