"""Turns what the tap shows, slices of lines, into records: as JSON for programs, as one line for people."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgpack

from tracker.protocol import bodies, kinds
from tracker.protocol.errors import ProtocolError
from tracker.protocol.header import read_header

#: A line is shown to people up to this many characters.
LINE_CHARACTERS_MAX = 500


@dataclass(frozen=True)
class PassingRecord:
    """A record that a server took. body: its fields by name, or why they cannot be shown."""

    uid: int
    user: str
    run: str | None
    stream: str
    offset: int
    kind: str
    body: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {**vars(self), "body": _plain(self.body)}

    def to_text(self) -> str:
        """Return one line for people."""
        time = self.body.get("time")
        clock = _clock(time) if isinstance(time, int) else "--:--:--.---"
        said = _said(self.kind, self.body)
        return f"{clock}  {self.run or self.user}  {self.kind:<8}  {said}"[:LINE_CHARACTERS_MAX]


class PassingRecords:
    """Puts slices together again. A slice that does not follow on the one before starts anew."""

    def __init__(self) -> None:
        self._partial: dict[str, tuple[int, bytes]] = {}  # stream → offset, bytes of an unfinished line

    def take(self, message: Mapping[str, Any]) -> Iterator[PassingRecord]:
        """Yield the records that end in this slice."""
        key = f"{message['uid']}/{message['stream']}"
        offset, data = int(message["offset"]), base64.b64decode(message["data"])
        at, partial = self._partial.pop(key, (offset, b""))
        if at + len(partial) == offset:
            offset, data = at, partial + data
        unpacker = msgpack.Unpacker(raw=True, strict_map_key=False, max_buffer_size=2 * kinds.LINE_BYTES_MAX)
        unpacker.feed(data)
        end = 0
        for line in unpacker:
            kind, _, body = line
            where = (message["uid"], message["user"], message["run"], message["stream"], offset + end)
            yield PassingRecord(*where, kinds.NAMES.get(kind, str(kind)), _fields(kind, body, data[end:]))
            end = unpacker.tell()
        if end < len(data):
            self._partial[key] = (offset + end, data[end:])


def _fields(kind: int, body: bytes, line: bytes) -> dict[str, Any]:
    try:
        if kind == kinds.HEADER:
            return read_header(line)[0]._asdict()
        decode = bodies.DECODERS.get(kind)
        return {"raw_bytes": len(body)} if decode is None else decode(body)._asdict()
    except ProtocolError as error:
        return {"raw_bytes": len(body), "problem": str(error)}


def _plain(value: Any) -> Any:
    """Return a value as JSON has it: bytes as hex digits, what is no finite number as a string."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, float) and not math.isfinite(value):
        return {math.inf: "Infinity", -math.inf: "-Infinity"}.get(value, "NaN")
    if isinstance(value, dict):
        return {str(_plain(name)): _plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return value


def _clock(time_ns: int) -> str:
    try:
        return datetime.fromtimestamp(time_ns / 1e9, UTC).astimezone().strftime("%H:%M:%S.%f")[:-3]
    except (ValueError, OverflowError, OSError):
        return "--:--:--.---"


def _said(kind: str, body: Mapping[str, Any]) -> str:
    if "raw_bytes" in body:
        return " ".join(f"{name}={value}" for name, value in body.items())
    if kind == "METRICS":
        values = " ".join(f"{name}={_number(value)}" for name, value in body.get("values", {}).items())
        return f"step {'+1' if body.get('step') is None else body['step']}  {values}"
    if kind == "CONSOLE":
        return f"{body.get('stream')}: " + " ⏎ ".join(body.get("lines", []))
    if kind == "SAMPLE":
        means = " ".join(f"{name}={_number(each[0])}" for name, each in body.get("values", {}).items())
        return f"{body.get('window', 0) / 1e9:g} s  {means}"
    return " ".join(f"{name}={_plain(value)}" for name, value in body.items() if name != "time")


def _number(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
