"""The server's own log: on stderr, readable on a terminal, JSON elsewhere; under systemd entries with fields.

A log that cannot be written (its disk is full, its pipe is closed) must not turn an answer into a failure:
such lines are dropped and counted, and the first line that gets through again says how many.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from typing import TextIO

import structlog

from . import journal, systemd
from .config import LogSettings

#: How soon asyncio may complain again.
SAME_LINE_S = 1.0


class UnfailingStream:
    """Passes text on to a stream, and counts what the stream does not take."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.dropped = 0

    def write(self, text: str) -> int:
        """Write, or count."""
        try:
            if self.dropped:
                self._stream.write(f"[{self.dropped} lines of the log could not be written]\n")
                self._stream.flush()
                self.dropped = 0
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):  # ValueError: closed
            self.dropped += text.count("\n")
        return len(text)

    def flush(self) -> None:
        """Do nothing: write() leaves nothing behind."""


class _OneLine(logging.Filter):
    """asyncio reports each connection it cannot accept with a traceback: say it in a line, once a second."""

    def __init__(self) -> None:
        super().__init__()
        self._said = 0.0

    def filter(self, record: logging.LogRecord) -> bool:
        if record.exc_info is None or not isinstance(record.exc_info[1], OSError):
            return True
        record.msg, record.args = f"{str(record.msg).splitlines()[0]}: {record.exc_info[1]}", ()
        record.exc_info = None
        again = record.created - self._said < SAME_LINE_S
        if not again:
            self._said = record.created
        return not again


def configure_logs(settings: LogSettings) -> Callable[[], None]:
    """Set up structlog, and route the standard library's warnings through the same stream.

    Returns what writes, at the end, whatever was not written yet.
    """
    level = getattr(logging, settings.level.upper())
    console = settings.format == "console" or (settings.format == "auto" and sys.stderr.isatty())
    in_journal = systemd.journal_reads(2, os.environ)
    wants_fields = in_journal and settings.format == "auto"
    send = systemd.journal_send() if wants_fields else None
    renderer: list[structlog.typing.Processor]
    if console:
        plain = structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
        renderer = [structlog.processors.TimeStamper(fmt="iso", utc=True), plain]
    elif send is not None:
        renderer = [structlog.processors.format_exc_info, journal.render_entry]
    else:
        # Never with the frames' variables: the keys that requests carry are among them.
        frames = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
        renderer = [
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.ExceptionRenderer(frames),
            journal.render_line if in_journal else structlog.processors.JSONRenderer(),
        ]
    stream = UnfailingStream(sys.stderr)
    logger = None if send is None else journal.JournalLogger(send)
    structlog.configure(
        processors=[structlog.processors.add_log_level, *renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(stream)  # type: ignore[arg-type]
        if logger is None
        else lambda *_: logger,
    )
    logging.getLogger("asyncio").addFilter(_OneLine())
    logging.basicConfig(stream=stream, level=max(level, logging.WARNING), format="%(name)s: %(message)s")
    if wants_fields and send is None:
        structlog.get_logger().info(
            "the journal gets JSON lines instead of fields, as systemd-python is not installed: "
            "install python3-systemd, or tracker-server[systemd]"
        )
    return logger.close if logger is not None else lambda: None
