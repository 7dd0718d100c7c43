"""What agents call: where streams go on, and records to store.

A request is held in memory from its first byte to its commit, so its size is taken from a budget
before anything is read; commits run one after another in the writer's lane. Full budget or full lane:
503 with Retry-After, and the agent comes back.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Annotated, Any

from aiohttp import web
from msgspec import UNSET, Meta, Struct

from tracker_server.config import LimitSettings
from tracker_server.ingest.commit import AgentInfo, Committed, commit
from tracker_server.ingest.decode import UndecodableError, decode_request, decompress, frame_bytes
from tracker_server.ingest.position import TooLargeError
from tracker_server.lanes import Lane
from tracker_server.live import LiveHub
from tracker_server.store.store import Store

from .answers import IngestAnswer, OffsetsAnswer, StreamAnswer, StreamOffset
from .byte_budget import ByteBudget
from .endpoint import read_body
from .errors import ApiError
from .json_values import encode_json
from .news import to_news
from .routes import Access, Call, NoQuery, Route

PROTOCOL = (1, 1)
PROTOCOL_HEADER = "X-Tracker-Protocol"
AGENT_HEADER = "X-Tracker-Agent"
MEDIA_TYPE = "application/msgpack"
OFFSETS_MAX = 10_000


class AskedStream(Struct):
    """A stream by its owner and id in hex."""

    uid: Annotated[int, Meta(ge=0, le=2**32 - 1)]
    stream: Annotated[str, Meta(pattern="^[0-9a-f]{32}$")]


class OffsetsBody(Struct):
    """The streams an agent is about to send. With `machine`, its host counts as seen."""

    streams: Annotated[list[AskedStream], Meta(max_length=OFFSETS_MAX)]
    machine: Annotated[str, Meta(max_length=128)] = ""
    host: Annotated[str, Meta(max_length=256)] = ""
    agent: Annotated[str, Meta(max_length=256)] = ""


class IngestApi:
    """POST /ingest and POST /streams/offsets."""

    def __init__(
        self,
        store: Store,
        epoch: str,
        writer: Lane,
        decoder: Lane,
        reader: Lane,
        hub: LiveHub,
        limits: LimitSettings,
        now: Callable[[], int] = time.time_ns,
    ) -> None:
        self._store = store
        self._epoch = epoch
        self._writer = writer
        self._decoder = decoder
        self._reader = reader
        self._hub = hub
        self._limits = limits
        self._now = now
        self._budget = ByteBudget(limits.ingest_bytes_in_flight)

    def routes(self) -> list[Route]:
        """Return what this serves."""
        return [
            Route(
                "POST",
                "/api/v1/ingest",
                Access.INGEST,
                self.ingest,
                "Store records of many streams, each exactly once",
                IngestAnswer,
                raw=MEDIA_TYPE,
            ),
            Route(
                "POST",
                "/api/v1/streams/offsets",
                Access.INGEST,
                self.offsets,
                "Say where streams go on",
                OffsetsAnswer,
                body=OffsetsBody,
            ),
        ]

    async def ingest(self, call: Call[NoQuery, None]) -> web.Response:
        """Store a batch; answer for each stream of it."""
        request = call.request
        check_protocol(request)
        if request.content_type != MEDIA_TYPE:
            raise ApiError(415, "bad_media_type", f"the body must be {MEDIA_TYPE}")
        encoding = request.headers.get("Content-Encoding", "identity").lower()
        if encoding not in ("zstd", "identity"):
            raise ApiError(415, "bad_encoding", "the body must be compressed with zstd, or not at all")
        limits = self._limits
        compressed_max = limits.ingest_request_bytes
        if encoding == "identity":
            compressed_max = limits.ingest_decompressed_bytes
        length = request.content_length
        if length is not None and length > compressed_max:
            raise ApiError(413, "too_large", f"an ingest request has at most {compressed_max} bytes")

        principal = call.principal
        self._budget.check(principal.id, length or 0)
        with self._budget.share(principal.id) as take:
            # Bytes count as they come: who announces many and sends none must not stop the others.
            body = await read_body(request, compressed_max, take)
            # What a frame will need is known once it is there; one that does not say counts in full.
            take(self._decompressed_bytes(body) if encoding == "zstd" else len(body))
            committed = await self._store_body(call, body, encoding == "zstd")
        for news in committed.news:
            self._hub.publish(to_news(news))
        return web.Response(
            body=encode_json(
                IngestAnswer(self._epoch, [_stream_answer(each) for each in committed.outcomes])
            ),
            content_type="application/json",
            headers={PROTOCOL_HEADER: str(PROTOCOL[1])},
        )

    def _decompressed_bytes(self, body: bytes) -> int:
        most = self._limits.ingest_decompressed_bytes
        size = frame_bytes(body)
        return most if size is None else min(size, most)

    async def _store_body(self, call: Call[NoQuery, None], body: bytes, compressed: bool) -> Committed:
        bytes_max = self._limits.ingest_decompressed_bytes
        try:
            if compressed:
                body = await self._decoder.run(decompress, body, bytes_max)
            info, entries = await self._decoder.run(decode_request, body)
            return await self._writer.run(commit, self._store, call.principal, info, entries, self._now())
        except TooLargeError as error:
            raise ApiError(413, "too_large", f"send less at once: {error}") from error
        except UndecodableError as error:
            raise ApiError(400, "unparsable", str(error)) from error

    async def offsets(self, call: Call[NoQuery, OffsetsBody]) -> OffsetsAnswer:
        """Answer for each stream in the order asked."""
        check_protocol(call.request)
        body = call.body
        asked = [(each.uid, bytes.fromhex(each.stream)) for each in body.streams]
        if body.machine:
            info = AgentInfo(version=body.agent, machine=body.machine, host=body.host)
            await self._writer.run(commit, self._store, call.principal, info, [], self._now())
        offsets = await self._reader.run(self._store.offsets, call.principal, asked)
        return OffsetsAnswer(
            self._epoch,
            [
                StreamOffset(uid, stream.hex(), each.next, each.crc, each.last)
                for (uid, stream), each in zip(asked, offsets, strict=True)
            ],
        )


def check_protocol(request: web.Request) -> None:
    """Raise ApiError for an agent that speaks no version this server does."""
    text = request.headers.get(PROTOCOL_HEADER, str(PROTOCOL[0]))
    if not (text.isascii() and text.isdecimal() and PROTOCOL[0] <= int(text[:9]) <= PROTOCOL[1]):
        raise ApiError(
            400,
            "bad_protocol",
            f"this server speaks protocol {PROTOCOL[0]} to {PROTOCOL[1]}, the request {text[:20]!r}",
            "upgrade whichever of agent and server is older",
        )


def _stream_answer(outcome: Any) -> StreamAnswer:
    answer = StreamAnswer(outcome.uid, outcome.stream.hex(), outcome.next)
    if outcome.error is not None:
        answer.error = outcome.error
        answer.reason = outcome.reason or UNSET
        if outcome.at is not None:
            answer.at = outcome.at
    return answer
