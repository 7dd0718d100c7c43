"""Writes tests/golden/protocol: what agent and server of protocol version 1 say to each other, byte for byte.

    python -m tests.golden.protocol.generate DIRECTORY

The committed files were written once and never change: they are what version 1 means. A test lets today's
agent say its half and today's real server say its own, and compares. Run this on the committed directory only
to add an exchange, behind those that are there.
"""

from __future__ import annotations

import http.client
import json
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tests.support.server_process import ServerProcess
from tracker.protocol.codec import Seeds, encode_line, scan_lines
from tracker.protocol.header import read_header
from tracker_agent.batch import Part, encode
from tracker_agent.pieces import Data, Missing, Piece

STREAM = bytes(range(16))
FORGED = bytes(range(32, 48))
TIME_NS = 1_700_000_000_000_000_000
MACHINE = "0123456789abcdef0123456789abcdef"
FILE = "exchanges.json"

_GOLDEN = Path(__file__).resolve().parent.parent / "v1"
_FIRST = (_GOLDEN / "two_segments" / f"{STREAM.hex()}.000000.mpl").read_bytes()
_SECOND = (_GOLDEN / "two_segments" / f"{STREAM.hex()}.000001.mpl").read_bytes()
_NEWER = (_GOLDEN / "newer_version" / f"{STREAM.hex()}.000000.mpl").read_bytes()


@dataclass(frozen=True)
class Ask:
    """A request of an agent. parts: (stream, piece) of an ingest; streams: those asked about."""

    name: str
    parts: tuple[tuple[bytes, Piece], ...] | None = None
    streams: tuple[bytes, ...] | None = None
    key: str = "KEY"
    protocol: str = "1"
    body: bytes | None = None


def asks() -> list[Ask]:
    """Return the requests in the order in which they are sent to a new server."""
    first, second = _FIRST, _SECOND
    flipped = bytes([*second[:-1], second[-1] ^ 1])
    return [
        Ask("server"),
        Ask("offsets_of_a_stream_that_is_unknown", streams=(STREAM,)),
        Ask("segment", parts=((STREAM, Data(0, first)),)),
        Ask("same_again", parts=((STREAM, Data(0, first)),)),
        Ask("hole", parts=((STREAM, Data(len(first) + 100, second)),)),
        Ask("bad_lines", parts=((STREAM, Data(len(first), flipped)),)),
        Ask("second_segment", parts=((STREAM, Data(len(first), second)),)),
        Ask("offsets", streams=(STREAM, FORGED)),
        Ask("other_bytes_under_the_same_id", parts=((STREAM, Data(len(first), _diverging(second))),)),
        Ask("gap", parts=((STREAM, Missing(len(first + second), 7, "damaged: the bytes are no records")),)),
        Ask("offsets_behind_a_gap", streams=(STREAM,)),
        Ask("other_header_under_the_same_id", parts=((STREAM, Data(0, _NEWER)),)),
        Ask("no_header", parts=((FORGED, Data(0, first)),)),
        Ask("two_streams_of_which_one_is_wrong", parts=((FORGED, Data(9, first)), (STREAM, Data(0, first)))),
        Ask("nothing", parts=()),
        Ask("unknown_key", parts=(), key="tk_00000000_" + "x" * 43),
        Ask("no_scope", parts=(), key="READ_KEY"),
        Ask("newer_protocol", parts=(), protocol="2"),
        Ask("not_msgpack", body=b"\xc1"),
    ]


def _diverging(segment: bytes) -> bytes:
    """Return a segment whose last line says something else, with a checksum that is right."""
    header, start = read_header(segment)
    seeds = Seeds(header.stream, header.segment)
    scanned = scan_lines(segment[start:], seeds)
    kind, _, body = scanned.lines[-1]
    return segment[: start + scanned.last] + encode_line(kind, body[:-1] + b"\x05", seeds[kind])


def body_of(ask: Ask) -> bytes | None:
    """Return what today's agent sends."""
    if ask.body is not None:
        return ask.body
    if ask.streams is not None:
        asked = {
            "machine": MACHINE,
            "host": "node01",
            "agent": "0.1.0",
            "streams": [{"uid": 1000, "stream": stream.hex()} for stream in ask.streams],
        }
        return json.dumps(asked).encode()
    if ask.parts is None:
        return None
    parts = []
    for stream, piece in ask.parts:
        owner: Any = SimpleNamespace(id=stream, uid=1000, user="ada")
        parts.append(Part(owner, piece))
    return encode(parts, "0.1.0", MACHINE, "node01", TIME_NS, compressed=False)


def target_of(ask: Ask) -> tuple[str, str, str]:
    """Return method, path and content type."""
    if ask.streams is not None:
        return "POST", "/api/v1/streams/offsets", "application/json"
    if ask.parts is None and ask.body is None:
        return "GET", "/api/v1/server", ""
    return "POST", "/api/v1/ingest", "application/msgpack"


def headers_of(ask: Ask) -> dict[str, str]:
    """Return the headers that count."""
    method, _, content_type = target_of(ask)
    headers = {"X-Tracker-Agent": "0.1.0", "X-Tracker-Protocol": ask.protocol}
    if method == "POST":
        headers |= {"Authorization": f"Bearer {ask.key}", "Content-Type": content_type}
    return headers


def answers_of(
    server: ServerProcess, exchanges: list[dict[str, Any]], directory: Path
) -> list[dict[str, Any]]:
    """Send recorded requests to a new server; return its answers, with what differs each time named."""
    keys = {"READ_KEY": server.new_key("reader", ("read",)), "KEY": server.ingest_key}
    answers = []
    for exchange in exchanges:
        headers = dict(exchange["headers"])
        word, _, key = headers.get("Authorization", "").partition(" ")
        if key:
            headers["Authorization"] = f"{word} {keys.get(key, key)}"
        body = (directory / exchange["body"]).read_bytes() if exchange["body"] else None
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
        connection.request(exchange["method"], exchange["path"], body, headers)
        response = connection.getresponse()
        text = response.read().decode()
        connection.close()
        answers.append({"status": response.status, "answer": _generic(text)})
    return answers


def _generic(text: str) -> Any:
    fields = json.loads(text)
    for name in ("epoch", "version"):
        if name in fields:
            fields[name] = name.upper()
    return fields


def generate(directory: Path) -> None:
    """Write everything."""
    directory.mkdir(parents=True, exist_ok=True)
    exchanges: list[dict[str, Any]] = []
    for ask in asks():
        method, path, _ = target_of(ask)
        body = body_of(ask)
        name = ""
        if body is not None:
            name = ask.name + (".json" if ask.streams is not None else ".msgpack")
            (directory / name).write_bytes(body)
        exchange = {
            "name": ask.name,
            "method": method,
            "path": path,
            "headers": headers_of(ask),
            "body": name,
        }
        exchanges.append(exchange)
    with tempfile.TemporaryDirectory() as temporary, ServerProcess(Path(temporary)) as server:
        answers = answers_of(server, exchanges, directory)
    recorded = [exchange | answer for exchange, answer in zip(exchanges, answers, strict=True)]
    (directory / FILE).write_text(json.dumps(recorded, indent=1) + "\n")


if __name__ == "__main__":
    generate(Path(sys.argv[1]))
