"""A second way into the server, for tests only: JSON lines. It proves commit() is the one way in.

Each line is one entry: {"uid", "user", "stream" (hex), "offset", "data" (base64)} or, instead of "data",
{"gap", "reason"}.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable

from tracker_server.ingest.commit import AgentInfo, Committed, Entry, GapEntry, Lines, commit
from tracker_server.principal import Principal
from tracker_server.store.store import Store


def commit_json_lines(store: Store, principal: Principal, lines: Iterable[str], now: int) -> Committed:
    """Commit entries written as JSON lines."""
    return commit(store, principal, AgentInfo("json-lines", "", ""), [_entry(line) for line in lines], now)


def to_json_line(uid: int, stream: bytes, offset: int, data: bytes) -> str:
    """Return whole lines as one entry of this front door."""
    return json.dumps(
        {
            "uid": uid,
            "user": "u",
            "stream": stream.hex(),
            "offset": offset,
            "data": base64.b64encode(data).decode(),
        }
    )


def _entry(line: str) -> Entry:
    fields = json.loads(line)
    uid, user, offset = fields["uid"], fields["user"], fields["offset"]
    stream = bytes.fromhex(fields["stream"])
    if "gap" in fields:
        return GapEntry(uid, user, stream, offset, fields["gap"], fields["reason"])
    return Lines(uid, user, stream, offset, base64.b64decode(fields["data"]))
