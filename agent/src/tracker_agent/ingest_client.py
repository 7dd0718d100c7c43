"""What a lane asks of a server, with one key: how far streams are, and to take records.

The one place where answers that concern a whole request become Unavailable (try again, for ever) or LockedOut
(keep everything and look again now and then), and where the endpoint hears how well the server is.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TypeVar

from . import answers
from .answers import Accepted, Locked, Offsets, Rejected, Retry, TooLarge
from .batch import Part, encode
from .clock import Clock
from .counters import Counters
from .endpoint import Endpoint
from .exchange import Answer, TransportError
from .own_stream import Identity
from .pieces import Data
from .streams import Stream

Verdict = TypeVar("Verdict", Offsets, Accepted)

#: Statuses that say: less, or later.
CONGESTED = (408, 429, 503, 504)


class Unavailable(Exception):
    """The server cannot be reached or is not well: try again, for ever."""

    def __init__(self, reason: str, status: int | None = None, timed_out: bool = False) -> None:
        super().__init__(reason)
        self.status = status  #: of the answer, None where there was none
        self.timed_out = timed_out


class LockedOut(Exception):
    """The key or the address is wrong: keep everything and look again now and then."""


class IngestClient:
    """A server as one key sees it. Every request may raise Unavailable or LockedOut."""

    def __init__(
        self,
        key: str | None,
        endpoint: Endpoint,
        identity: Identity,
        clock: Clock,
        counters: Counters,
    ) -> None:
        self.in_flight = 0  #: requests with records on their way
        self.took_records = False  #: the server stored records that came with this key
        self._key = key
        self._endpoint = endpoint
        self._identity = identity
        self._clock = clock
        self._counters = counters

    def greet(self) -> None:
        """Make sure that anything may be sent at all."""
        if self._key is None:
            raise LockedOut("no key: set server.key or server.key_file, or leave a key in the spool")

    async def offsets(self, streams: Sequence[Stream]) -> Offsets | TooLarge:
        """Ask how far some streams are."""
        asked = {
            "machine": self._identity.machine,
            "host": self._identity.host,
            "agent": self._identity.version,
            "streams": [{"uid": stream.uid, "stream": stream.id.hex()} for stream in streams],
        }
        headers = {"Content-Type": "application/json"}
        restorations = self._endpoint.restorations
        raw = await self._request("POST", "/api/v1/streams/offsets", headers, json.dumps(asked).encode())
        answer = self._judge(raw, answers.parse_offsets(raw, self._wall_s()))
        if isinstance(answer, Rejected):
            raise Unavailable(answer.reason, raw.status)
        if isinstance(answer, Offsets):
            self._hear(answer.epoch, restorations)
        return answer

    async def ingest(self, parts: Sequence[Part]) -> Accepted | TooLarge | Rejected:
        """Send records, and gaps where there are none."""
        compressed = "zstd" in self._endpoint.capabilities
        identity = self._identity
        body = await self._endpoint.in_thread(
            encode,
            parts,
            identity.version,
            identity.machine,
            identity.host,
            self._clock.wall_ns(),
            compressed,
        )
        headers = {"Content-Type": "application/msgpack"}
        if compressed:
            headers["Content-Encoding"] = "zstd"
        self._counters.requests += 1
        self._counters.bytes_sent += len(body)
        self.in_flight += 1
        restorations = self._endpoint.restorations
        try:
            raw = await self._request("POST", "/api/v1/ingest", headers, body)
        finally:
            self.in_flight -= 1
        verdict = self._judge(raw, answers.parse_ingest(raw, self._wall_s()))
        if isinstance(verdict, Accepted):
            self._hear(verdict.epoch, restorations)
            if any(isinstance(part.piece, Data) for part in parts):
                self.took_records |= any(answer.error is None for answer in verdict.streams)
        return verdict

    async def _request(
        self, method: str, path: str, headers: dict[str, str], body: bytes | None = None
    ) -> Answer:
        if not self._endpoint.admits:
            # Others found out while this one waited for its turn.
            raise Unavailable(self._endpoint.reason or "the server is away")
        headers |= {"Authorization": f"Bearer {self._key}"}
        try:
            return await self._endpoint.request(method, path, headers, body)
        except TransportError as error:
            timed_out = isinstance(error.__cause__, TimeoutError)
            self._endpoint.failed(str(error), None, timed_out)
            raise Unavailable(str(error), None, timed_out) from error

    def _judge(self, raw: Answer, verdict: Verdict | answers.Failure) -> Verdict | TooLarge | Rejected:
        """Tell the endpoint what an answer says of the server; raise what says nothing of the request."""
        if isinstance(verdict, Retry):
            self._endpoint.failed(verdict.reason, verdict.retry_after_s, raw.status in CONGESTED)
            raise Unavailable(verdict.reason, raw.status)
        self._endpoint.answered(isinstance(verdict, Accepted))
        if isinstance(verdict, Locked):
            raise LockedOut(verdict.reason)
        return verdict

    def _hear(self, epoch: str, restorations: int) -> None:
        if not self._endpoint.hear(epoch, restorations):
            raise Unavailable("the server was restored while it answered")

    def _wall_s(self) -> float:
        return self._clock.wall_ns() / 1e9
