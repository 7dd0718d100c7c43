"""A real HTTP server that speaks the ingest protocol, keeps streams in memory and can be told to misbehave.

    with FakeTrackerServer() as server:
        server.faults["/api/v1/ingest"] = [Status(503), LoseResponse(), None]   # one per request, None: well
        server.refuse = lambda data: b"poison" in data                         # 400 for such a request

It runs in a thread of its own, so that agents in the test's loop or in other processes can use it.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import threading
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import msgpack
import zstandard
from aiohttp import web

from tracker.protocol import bodies, kinds
from tracker.protocol.codec import Seeds, scan_lines
from tracker.protocol.errors import BodyError, HeaderError
from tracker.protocol.header import Header, read_header

Key = tuple[int, bytes]


@dataclass
class Status:
    """Answer with this status and commit nothing."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b'{"error": "scripted", "reason": "the test wants it"}'


@dataclass
class Answered:
    """Commit, then answer with something else than what is true."""

    status: int = 200
    body: bytes = b"<html>welcome to the hotel</html>"


@dataclass
class LoseResponse:
    """Commit, then cut the connection."""


@dataclass
class Reset:
    """Cut the connection without committing."""


@dataclass
class Hang:
    """Commit (or not) and never answer."""

    commit: bool = True


@dataclass
class Late:
    """Commit and answer after some time."""

    seconds: float


@dataclass
class Twice:
    """Commit the request twice, as a network that duplicates would."""


@dataclass
class Stored:
    """What the server has of a stream."""

    next: int = 0
    crc: int | None = None
    last: int | None = None
    segment: int = 0
    header: Header | None = None
    chunks: list[tuple[int, bytes]] = field(default_factory=list)
    gaps: list[tuple[int, int, str]] = field(default_factory=list)
    state: str = "live"

    def content(self) -> bytes:
        """Every stored byte in order; gaps are left out."""
        return b"".join(data for _, data in self.chunks)

    def records(self) -> list[tuple[int, bytes]]:
        """(kind, body) of every line but the HEADERs."""
        found = []
        for _, data in self.chunks:
            header = None
            if data[1] == kinds.HEADER:
                header, start = read_header(data)
                self.segment, data = header.segment, data[start:]
            assert self.header is not None
            segment = header.segment if header else self._segment
            self._segment = segment
            found += [
                (kind, body) for kind, _, body in scan_lines(data, Seeds(self.header.stream, segment)).lines
            ]
        return found

    _segment: int = 0


class FakeTrackerServer:
    """Use as a context manager. Attributes may be changed at any time."""

    def __init__(
        self, keys: Iterable[str] = ("key",), port: int = 0, tls: ssl.SSLContext | None = None
    ) -> None:
        self.keys = set(keys)
        self.port = port
        self.tls = tls
        self.epoch = "epoch-1"
        self.identity: dict[str, Any] | None = None
        self.streams: dict[str, dict[Key, Stored]] = {}  # by key: a key stands for an entity here
        self.faults: dict[str, list[Any]] = {}
        self.requests: deque[tuple[str, int]] = deque(maxlen=100_000)  # path and status
        self.batches: list[
            list[tuple[bytes, int, int]]
        ] = []  # (stream, offset, bytes or -gap) of each ingest
        self.body_bytes_max = 64 * 1024 * 1024
        self.refuse: Callable[[bytes], bool] = lambda data: False
        self.refuse_status = 400
        self.forbidden: set[bytes] = set()
        self.bad_lines: Callable[[bytes], int | None] = lambda data: None
        self.observed: list[bodies.Observed] = []
        self.keep_bytes = True
        self.bytes_received = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._runner: web.AppRunner | None = None
        self._hanging: set[asyncio.Event] = set()

    @property
    def url(self) -> str:
        return f"http{'s' if self.tls else ''}://127.0.0.1:{self.port}"

    # Looking at it.

    def stored(self, stream: bytes, uid: int | None = None, key: str = "key") -> Stored | None:
        """What is stored of a stream, None when nothing is."""
        for (owner, found), stored in self.streams.get(key, {}).items():
            if found == stream and uid in (None, owner):
                return stored
        return None

    def content(self, stream: bytes, key: str = "key") -> bytes:
        stored = self.stored(stream, key=key)
        return stored.content() if stored else b""

    def run_streams(self, run: str, key: str = "key") -> list[Stored]:
        return [s for s in self.streams.get(key, {}).values() if s.header and s.header.run == run]

    def states(self, stream: bytes) -> list[tuple[str, dict[str, Any]]]:
        """What agents observed of a stream, in order of arrival."""
        return [(record.state, record.facts) for record in self.observed if record.stream == stream]

    # Life.

    def __enter__(self) -> FakeTrackerServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        started = threading.Event()
        self._thread = threading.Thread(target=self._serve, args=(started,), daemon=True)
        self._thread.start()
        assert started.wait(10)

    def stop(self) -> None:
        """Stop listening; what is stored stays, start() goes on with it on the same port."""
        loop, thread = self._loop, self._thread
        assert loop is not None and thread is not None
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        self._loop = self._thread = None

    def _serve(self, started: threading.Event) -> None:
        loop = self._loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
        app = web.Application(client_max_size=256 * 1024 * 1024)
        app.router.add_route("*", "/{path:.*}", self._handle)
        runner = self._runner = web.AppRunner(app, shutdown_timeout=0.1, auto_decompress=False)
        loop.run_until_complete(runner.setup())
        site = web.TCPSite(runner, "127.0.0.1", self.port, ssl_context=self.tls, reuse_address=True)
        loop.run_until_complete(site.start())
        if self.port == 0:
            self.port = site._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]
        started.set()
        loop.run_forever()
        for event in self._hanging:
            event.set()
        loop.run_until_complete(runner.cleanup())
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        # One path may be asked for with a body longer than we are told to take.
        response = await self._answer(request)
        self.requests.append((request.path, response.status if response is not None else 0))
        if response is None:
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        return response

    async def _answer(self, request: web.Request) -> web.Response | None:
        body = await request.read()
        script = self.faults.get(request.path)
        fault = script.pop(0) if script else None
        if isinstance(fault, Status):
            return web.Response(status=fault.status, headers=fault.headers, body=fault.body)
        if isinstance(fault, Reset):
            return None
        if isinstance(fault, Hang) and not fault.commit:
            await self._hang()
            return None
        answer = self._truth(request, body)
        if isinstance(fault, Twice):
            answer = self._truth(request, body)
        if isinstance(fault, LoseResponse):
            return None
        if isinstance(fault, Hang):
            await self._hang()
            return None
        if isinstance(fault, Late):
            await asyncio.sleep(fault.seconds)
        if isinstance(fault, Answered):
            return web.Response(status=fault.status, body=fault.body)
        return answer

    async def _hang(self) -> None:
        event = asyncio.Event()
        self._hanging.add(event)
        await event.wait()

    def _truth(self, request: web.Request, body: bytes) -> web.Response:
        if request.path == "/api/v1/server":
            default = {"server": "tracker", "version": "0", "protocol": [1, 1], "capabilities": ["zstd"]}
            return web.json_response(self.identity or {**default, "epoch": self.epoch})
        key = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if key not in self.keys:
            return web.json_response({"error": "unknown_key", "reason": "no such key"}, status=401)
        streams = self.streams.setdefault(key, {})
        if request.path == "/api/v1/streams/offsets":
            return web.json_response(self._offsets(streams, json.loads(body)))
        if request.path == "/api/v1/ingest":
            return self._ingest(streams, body)
        return web.json_response({"error": "not_found", "reason": request.path}, status=404)

    def _offsets(self, streams: dict[Key, Stored], asked: Any) -> dict[str, Any]:
        answers = []
        for item in asked["streams"]:
            stored = streams.get((item["uid"], bytes.fromhex(item["stream"])), Stored())
            answers.append({**item, "next": stored.next, "crc": stored.crc, "last": stored.last})
        return {"epoch": self.epoch, "streams": answers}

    def _ingest(self, streams: dict[Key, Stored], body: bytes) -> web.Response:
        content = body
        if body.startswith(b"\x28\xb5\x2f\xfd"):
            content = zstandard.ZstdDecompressor().decompressobj().decompress(body)
        if len(content) > self.body_bytes_max:
            return web.json_response({"error": "too_large", "reason": "too large"}, status=413)
        request = msgpack.unpackb(content, raw=False)
        entries = request["entries"]
        if any(isinstance(data, bytes) and self.refuse(data) for _, _, data, _ in entries):
            answer = {"error": "refused", "reason": "I do not like it"}
            return web.json_response(answer, status=self.refuse_status)
        sizes = [(s, o, len(d) if isinstance(d, bytes) else -d["gap"]) for s, o, d, _ in entries]
        self.batches.append(sizes)
        answers: dict[Key, dict[str, Any]] = {}
        for stream, offset, data, owner in entries:
            key = (owner["uid"], stream)
            answer = answers.get(key)
            if answer is not None and "error" in answer:
                continue
            answers[key] = self._commit(streams.setdefault(key, Stored()), stream, offset, data)
            answers[key] |= {"uid": owner["uid"], "stream": stream.hex()}
        return web.json_response({"epoch": self.epoch, "streams": list(answers.values())})

    def _commit(self, stored: Stored, stream: bytes, offset: int, data: Any) -> dict[str, Any]:
        if stream in self.forbidden:
            return {"error": "forbidden", "reason": "the run belongs to someone else", "next": None}
        if offset > stored.next:
            return {"error": "hole", "reason": "hole", "next": stored.next}
        if not isinstance(data, bytes):
            end = offset + data["gap"]
            if end > stored.next:
                stored.gaps.append((stored.next, end - stored.next, data["reason"]))
                stored.next, stored.crc, stored.last = end, None, None
            return {"next": stored.next}
        at = self.bad_lines(data)
        if at is not None:
            return {"error": "bad_lines", "reason": "bad lines", "next": stored.next, "at": offset + at}
        if offset < stored.next:
            data = data[stored.next - offset :]
            if not data:
                return {"next": stored.next}
        self.bytes_received += len(data)
        return self._append(stored, stream, data)

    def _append(self, stored: Stored, stream: bytes, data: bytes) -> dict[str, Any]:
        start = 0
        last_crc, last = None, stored.next
        if data[1] == kinds.HEADER:
            try:
                header, start = read_header(data)
            except HeaderError as error:
                return {"error": "bad_stream", "reason": str(error), "next": stored.next}
            if header.base != stored.next or header.stream != stream:
                return {"error": "bad_stream", "reason": "impossible base", "next": stored.next}
            stored.header = stored.header or header
            stored.segment = header.segment
            last_crc = int.from_bytes(data[3:7], "big")
        scanned = scan_lines(data[start:], Seeds(stream, stored.segment))
        if start + scanned.end != len(data):
            at = stored.next + start + scanned.end
            return {"error": "bad_lines", "reason": "no whole lines", "next": stored.next, "at": at}
        if scanned.lines:
            last_crc = scanned.lines[-1][1]
            last = stored.next + start + scanned.last
        for kind, _, body in scanned.lines:
            self._look_at(stored, kind, body)
        if self.keep_bytes:
            stored.chunks.append((stored.next, data))
        stored.next += len(data)
        stored.crc, stored.last = last_crc, last
        return {"next": stored.next}

    def _look_at(self, stored: Stored, kind: int, body: bytes) -> None:
        if kind == kinds.OBSERVED:
            try:
                self.observed.append(bodies.decode_observed(body))
            except BodyError:
                pass
        elif kind == kinds.EXIT:
            stored.state = "ended"
