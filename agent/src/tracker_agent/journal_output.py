"""The log under systemd, where systemd-python is installed: entries with fields that journalctl can search.

A thread of its own hands them to journald, which makes whoever logs wait while it stands still.
"""

from __future__ import annotations

import json
import queue
import re
import threading
from collections.abc import Callable, MutableMapping, Sequence
from typing import Any

from .log_output import PRIORITY, LogOutput

IDENTIFIER = "tracker-agent"
#: Entries that wait for journald; what comes after them is dropped and counted.
ENTRIES_MAX = 1000
#: At the end journald may take so long for what it was not given yet.
LEAVE_S = 0.5
#: journald leaves out fields with longer names.
_NAME_MAX = 64
_NOT_IN_NAMES = re.compile("[^A-Z0-9_]")
#: Values that need no quotes to be told from what follows.
_PLAIN = re.compile(r'[^\s"=]+')


class JournalOutput(LogOutput):
    """Hands entries to journald. send(fields): each is b"NAME=value"; raises OSError."""

    def __init__(self, send: Callable[[Sequence[bytes]], None]) -> None:
        super().__init__()
        self._send = send
        self._entries: queue.Queue[Sequence[bytes] | None] = queue.Queue(ENTRIES_MAX)
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)
        self._thread.start()

    def write(self, line: str, fields: Sequence[bytes]) -> None:
        """Leave an entry to the thread, or drop it."""
        try:
            self._entries.put_nowait([b"MESSAGE=" + line.encode("utf-8", "backslashreplace"), *fields])
        except queue.Full:
            self.drop()

    def close(self) -> None:
        """Give journald a moment for what it was not given yet."""
        try:
            self._entries.put(None, timeout=LEAVE_S)
        except queue.Full:
            return  # it stands still
        self._thread.join(LEAVE_S)

    def _run(self) -> None:
        while (entry := self._entries.get()) is not None:
            try:
                self._send(entry)
            except OSError:
                self.drop()


def render_entry(
    _logger: object, method: str, event: MutableMapping[str, Any]
) -> tuple[tuple[str, list[bytes]], dict[str, Any]]:
    """Return the arguments of LogOutput.msg(): a line for people, and the fields of the entry."""
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
    return (line, fields), {}


def _field(name: str, value: str) -> bytes:
    allowed = _NOT_IN_NAMES.sub("_", name.upper())[:_NAME_MAX]
    return f"{allowed}={value}".encode("utf-8", "backslashreplace")
