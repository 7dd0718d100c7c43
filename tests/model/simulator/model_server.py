"""What docs/protocol.md says a server does, as simply as can be: lists of what was committed, in memory.

test_model_server.py holds it against the real one. It can go back to how it was some time ago.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgpack
import zstandard

from tracker.protocol.codec import Seeds, declared_end, parse_start, read_line, scan_lines
from tracker.protocol.errors import HeaderError
from tracker.protocol.header import Header, read_header

StreamKey = tuple[int, bytes]
Reply = tuple[int, dict[str, str], bytes]

#: After a gap that hid HEADERs, how many segments further on the lines may belong to.
SEGMENTS_TRIED = 16


@dataclass
class Stored:
    """What is committed of a stream. pieces: (offset, bytes), or (offset, size of a gap, reason)."""

    next: int = 0
    crc: int | None = None
    last: int | None = None
    segment: int = 0
    header: Header | None = None
    pieces: list[Any] = field(default_factory=list)


class RefusedError(Exception):
    """An entry cannot be stored."""

    def __init__(self, code: str, reason: str = "", at: int | None = None) -> None:
        super().__init__(code)
        self.answer: dict[str, Any] = {"error": code, "reason": reason or code}
        if at is not None:
            self.answer["at"] = at


class ModelServer:
    """One server. keys: key → name of its entity."""

    def __init__(self, epoch: str = "epoch-1") -> None:
        self.epoch = epoch
        self.keys: dict[str, str] = {}
        self.streams: dict[tuple[str, int, bytes], Stored] = {}
        self.forbidden: set[bytes] = set()
        self.furthest: dict[bytes, int] = {}  #: stream → the most that was ever stored of it
        self.unstorable: Callable[[bytes, int], bool] | None = None  #: lines that are bad_lines here
        self.too_large: Callable[[list[Any]], bool] = lambda entries: False
        self.refused: Callable[[list[Any]], bool] = lambda entries: False

    # Backups.

    def snapshot(self) -> list[Any]:
        """Return what restore() needs."""
        return [
            (key, s.next, s.crc, s.last, s.segment, s.header, len(s.pieces))
            for key, s in self.streams.items()
        ]

    def restore(self, snapshot: list[Any], epoch: str) -> None:
        """Be as it was then."""
        old, self.streams, self.epoch = self.streams, {}, epoch
        for key, following, crc, last, segment, header, pieces in snapshot:
            self.streams[key] = Stored(following, crc, last, segment, header, old[key].pieces[:pieces])

    # Requests.

    def handle(self, method: str, path: str, headers: dict[str, str], body: bytes | None) -> Reply:
        """Answer one request."""
        if (method, path) == ("GET", "/api/v1/server"):
            identity = {"server": "tracker", "version": "0", "protocol": [1, 1], "capabilities": ["zstd"]}
            return _json(200, {**identity, "epoch": self.epoch})
        entity = self.keys.get(headers.get("Authorization", "").removeprefix("Bearer "))
        if entity is None:
            return _json(401, {"error": "unknown_key", "reason": "no such key"})
        assert body is not None
        if path == "/api/v1/streams/offsets":
            return self._offsets(entity, json.loads(body)["streams"])
        if path == "/api/v1/ingest":
            return self._ingest(entity, decode(body))
        return _json(404, {"error": "not_found", "reason": path})

    def _offsets(self, entity: str, asked: list[Any]) -> Reply:
        answers = []
        for item in asked:
            stored = self.streams.get((entity, item["uid"], bytes.fromhex(item["stream"])), _NOTHING)
            answers.append({**item, "next": stored.next, "last": stored.last, "crc": stored.crc})
        return _json(200, {"epoch": self.epoch, "streams": answers})

    def _ingest(self, entity: str, entries: list[Any]) -> Reply:
        if self.too_large(entries):
            return _json(413, {"error": "too_large", "reason": "too large"})
        if self.refused(entries):
            return _json(400, {"error": "refused", "reason": "unacceptable"})
        answers: dict[StreamKey, dict[str, Any]] = {}
        for stream, offset, content, owner in entries:
            uid = owner["uid"]
            answer = answers.get((uid, stream))
            if answer is None or "error" not in answer:
                answers[uid, stream] = self.commit(entity, uid, stream, offset, content)
        streams = [
            {"uid": uid, "stream": stream.hex(), **answer} for (uid, stream), answer in answers.items()
        ]
        return _json(200, {"epoch": self.epoch, "streams": streams})

    def commit(self, entity: str, uid: int, stream: bytes, offset: int, content: Any) -> dict[str, Any]:
        """Commit one entry; return the stream's part of the answer."""
        key = (entity, uid, stream)
        stored = self.streams.get(key) or Stored()
        if stream in self.forbidden:
            return {"error": "forbidden", "reason": "somebody else's", "next": None}
        try:
            if isinstance(content, bytes):
                self._add_lines(stored, stream, offset, content)
            else:
                _add_gap(stored, offset, content["gap"], content["reason"])
        except RefusedError as refused:
            return {**refused.answer, "next": stored.next}
        self.streams[key] = stored
        self.furthest[stream] = max(stored.next, self.furthest.get(stream, 0))
        return {"next": stored.next}

    def _add_lines(self, stored: Stored, stream: bytes, offset: int, data: bytes) -> None:
        if not data:
            raise RefusedError("bad_lines", at=offset)
        if offset > stored.next:
            raise RefusedError("hole")
        header, header_size = _header(stored, stream, offset, data)
        segment = stored.segment if header is None else header.segment
        end = offset + len(data)
        if offset < stored.next:
            if end >= stored.next:
                _check_overlap(stored, stream, segment, offset, data)
            if end <= stored.next:
                return
            if segment != stored.segment:
                raise RefusedError("diverged")
            new, at = data[stored.next - offset :], stored.next
        else:
            new, at = data[header_size:], offset + header_size
            if header is None and stored.header is None:
                raise RefusedError("bad_stream")
        scanned = scan_lines(new, Seeds(stream, segment))
        if not scanned.end and header is None and stored.crc is None:
            for number in range(segment + 1, segment + 1 + SEGMENTS_TRIED):
                tried = scan_lines(new, Seeds(stream, number))
                if tried.end:
                    scanned, segment = tried, number
                    break
        if scanned.end != len(new):
            raise RefusedError("bad_lines", at=at + scanned.end)
        self._look_for_unstorable(stream, new, at)
        if scanned.lines:
            stored.crc, stored.last = scanned.lines[-1][1], at + scanned.last
        else:
            stored.crc, stored.last = parse_start(data, 0)[1], offset
        stored.pieces.append((stored.next, data[stored.next - offset :]))
        stored.next, stored.segment, stored.header = end, segment, stored.header or header

    def _look_for_unstorable(self, stream: bytes, lines: bytes, at: int) -> None:
        start = 0
        while self.unstorable is not None and start < len(lines):
            if self.unstorable(stream, at + start):
                raise RefusedError("bad_lines", at=at + start)
            start += declared_end(lines[start : start + 16])


_NOTHING = Stored()


def _add_gap(stored: Stored, offset: int, size: int, reason: str) -> None:
    if size <= 0:
        raise RefusedError("bad_stream")
    if offset > stored.next:
        raise RefusedError("hole")
    if offset + size <= stored.next:
        return
    if offset < stored.next:
        raise RefusedError("diverged")
    stored.pieces.append((offset, size, reason))
    stored.next, stored.crc, stored.last = offset + size, None, None


def _header(stored: Stored, stream: bytes, offset: int, data: bytes) -> tuple[Header | None, int]:
    if data[:2] != b"\x93\x00":
        return None, 0
    try:
        header, size = read_header(data)
    except HeaderError as error:
        raise RefusedError("bad_stream", at=offset) from error
    if header.stream != stream:
        raise RefusedError("bad_stream")
    if header.base != offset or (offset == 0) != (header.segment == 0):
        raise RefusedError("bad_stream", at=offset)
    known = stored.header
    if known is not None:
        if offset == stored.next and header.segment <= stored.segment:
            raise RefusedError("bad_stream")
        if header._replace(segment=0, base=0, offline=False) != known._replace(
            segment=0, base=0, offline=False
        ):
            raise RefusedError("bad_stream")
    return header, size


def _check_overlap(stored: Stored, stream: bytes, segment: int, offset: int, data: bytes) -> None:
    """Make sure that the last line that is stored stands in data where it should."""
    if stored.crc is None or stored.last is None:
        return
    start, end = stored.last - offset, stored.next - offset
    found: tuple[int | None, int] = (None, 0)
    if start == 0 and data[:2] == b"\x93\x00":
        found = parse_start(data, 0)[1], read_header(data)[1]
    elif start >= 0:
        line, line_end, _ = read_line(data, start, Seeds(stream, segment))
        found = (None if line is None else line[1]), line_end
    if found != (stored.crc, end):
        raise RefusedError("diverged")


def decode(body: bytes) -> list[Any]:
    """Return the entries of an ingest request."""
    content = zstandard.ZstdDecompressor().decompressobj().decompress(body)
    entries: list[Any] = msgpack.unpackb(content)["entries"]
    return entries


def _json(status: int, fields: dict[str, Any]) -> Reply:
    return status, {}, json.dumps(fields).encode()
