"""The log under systemd: entries with a priority, and with fields that `journalctl` can search.

A thread of its own hands them to journald, which makes whoever writes wait while it stands still. Without
systemd-python they are JSON lines behind the prefix by which journald learns the priority (sd-daemon(3)).
"""

from __future__ import annotations

import json
import queue
import re
import threading
from collections.abc import Callable, MutableMapping, Sequence
from typing import Any

IDENTIFIER = "tracker-server"
#: Priorities of syslog, by level.
PRIORITY = {"debug": 7, "info": 6, "warning": 4, "error": 3, "exception": 3, "critical": 2}
#: Entries that wait for journald; what comes after them is dropped, and counted in the next one.
ENTRIES_MAX = 1000
#: At the end journald may take so long for what it was not given yet.
LEAVE_S = 0.5
#: journald leaves out fields with longer names.
_NAME_MAX = 64
_NOT_IN_NAMES = re.compile("[^A-Z0-9_]")
#: Values that need no quotes to be told from what follows.
_PLAIN = re.compile(r'[^\s"=]+')

Entry = list[bytes]


class JournalLogger:
    """Takes entries from structlog. send(fields): each is b"NAME=value"; raises OSError."""

    def __init__(self, send: Callable[[Sequence[bytes]], None]) -> None:
        self._send = send
        self._dropped = 0
        self._entries: queue.Queue[Entry | None] = queue.Queue(ENTRIES_MAX)
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)
        self._thread.start()

    def msg(self, entry: Entry) -> None:
        """Leave an entry to the thread, or drop it."""
        if self._dropped:
            entry = [*entry, b"TRACKER_LINES_DROPPED=%d" % self._dropped]
        try:
            self._entries.put_nowait(entry)
            self._dropped = 0
        except queue.Full:
            self._dropped += 1

    log = debug = info = warning = warn = error = critical = exception = fatal = failure = msg

    def close(self) -> None:
        """Give journald a moment for what it was not given yet."""
        try:
            self._entries.put_nowait(None)
        except queue.Full:
            return  # journald stands still
        self._thread.join(LEAVE_S)

    def _run(self) -> None:
        while (entry := self._entries.get()) is not None:
            try:
                self._send(entry)
            except OSError:
                self._dropped += 1


def render_entry(
    _logger: object, method: str, event: MutableMapping[str, Any]
) -> tuple[tuple[Entry], dict[str, Any]]:
    """Return the arguments of JournalLogger.msg(): a line for people, and the fields of the entry."""
    message = str(event.pop("event", ""))
    event.pop("level", None)
    traceback = event.pop("exception", None)
    fields = [
        b"PRIORITY=%d" % PRIORITY.get(method, 6),
        b"SYSLOG_IDENTIFIER=" + IDENTIFIER.encode(),
        _field("TRACKER_EVENT", message),
    ]
    line = message
    for name, value in event.items():
        text = value if isinstance(value, str) else json.dumps(value, default=str)
        fields.append(_field("TRACKER_" + name, text))
        line += f" {name}={text if _PLAIN.fullmatch(text) else json.dumps(text, ensure_ascii=False)}"
    if traceback:
        line += f"\n{traceback}"
    return ([b"MESSAGE=" + line.encode("utf-8", "backslashreplace"), *fields],), {}


def render_line(_logger: object, method: str, event: MutableMapping[str, Any]) -> str:
    """Return JSON behind the prefix of its priority."""
    return f"<{PRIORITY.get(method, 6)}>{json.dumps(event, default=str)}"


def _field(name: str, value: str) -> bytes:
    allowed = _NOT_IN_NAMES.sub("_", name.upper())[:_NAME_MAX]
    return f"{allowed}={value}".encode("utf-8", "backslashreplace")
