"""What a lane asks of a server, with one key: who it is, how far streams are, and to take records.

The one place where answers that concern a whole request become Unavailable (try again, for ever) or LockedOut
(keep everything and look again now and then).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

from . import answers
from .answers import Accepted, Locked, Offsets, Rejected, Retry, TooLarge
from .batch import Part, encode
from .clock import Clock
from .counters import Counters
from .endpoint import Endpoint
from .own_stream import Identity
from .streams import Stream
from .transport import Answer, TransportError


class Unavailable(Exception):
    """The server cannot be reached or is not well: try again, for ever."""

    def __init__(self, reason: str, retry_after_s: float | None = None) -> None:
        super().__init__(reason)
        self.retry_after_s = retry_after_s


class LockedOut(Exception):
    """The key or the address is wrong: keep everything and look again now and then."""


class IngestClient:
    """A server as one key sees it. Every request may raise Unavailable or LockedOut.

    restored() is called before an answer is returned that names another epoch than the one before.
    """

    def __init__(
        self,
        key: str | None,
        endpoint: Endpoint,
        identity: Identity,
        clock: Clock,
        counters: Counters,
        restored: Callable[[str], None],
    ) -> None:
        self.epoch: str | None = None  #: as the server named it last
        self.in_flight = False  #: records are on their way
        self._key = key
        self._endpoint = endpoint
        self._identity = identity
        self._clock = clock
        self._counters = counters
        self._restored = restored

    async def check(self) -> None:
        """Make sure that a Tracker server is at the other end before anything is sent there."""
        if self._key is None:
            raise LockedOut("no key: set server.key or server.key_file, or leave a key in the spool")
        answer = answers.parse_server(await self._request("GET", "/api/v1/server", {}), self._wall_s())
        if isinstance(answer, Retry | Locked):
            raise _as_failure(answer)
        self._see_epoch(answer.epoch)

    async def offsets(self, streams: Sequence[Stream]) -> Offsets | TooLarge:
        """Ask how far some streams are."""
        asked = {
            "machine": self._identity.machine,
            "host": self._identity.host,
            "agent": self._identity.version,
            "streams": [{"uid": stream.uid, "stream": stream.id.hex()} for stream in streams],
        }
        headers = {"Content-Type": "application/json"}
        body = json.dumps(asked).encode()
        answer = answers.parse_offsets(
            await self._request("POST", "/api/v1/streams/offsets", headers, body), self._wall_s()
        )
        if isinstance(answer, Offsets):
            self._see_epoch(answer.epoch)
        elif not isinstance(answer, TooLarge):
            raise _as_failure(answer)
        return answer

    async def ingest(self, parts: Sequence[Part]) -> Accepted | TooLarge | Rejected:
        """Send records, and gaps where there are none."""
        body = await self._endpoint.in_thread(
            encode, parts, self._identity.version, self._identity.machine, self._identity.host,
            self._clock.wall_ns() )  # fmt: skip
        headers = {"Content-Type": "application/msgpack", "Content-Encoding": "zstd"}
        self._counters.requests += 1
        self._counters.bytes_sent += len(body)
        self.in_flight = True
        try:
            answer = await self._request("POST", "/api/v1/ingest", headers, body)
        finally:
            self.in_flight = False
        verdict = answers.parse_ingest(answer, self._wall_s())
        if isinstance(verdict, Retry | Locked):
            raise _as_failure(verdict)
        if isinstance(verdict, Accepted):
            self._see_epoch(verdict.epoch)
        return verdict

    async def _request(
        self, method: str, path: str, headers: dict[str, str], body: bytes | None = None
    ) -> Answer:
        headers |= {
            "X-Tracker-Agent": self._identity.version,
            "X-Tracker-Protocol": str(answers.PROTOCOL_VERSION),
        }
        if method != "GET":
            headers["Authorization"] = f"Bearer {self._key}"
        try:
            return await self._endpoint.request(method, path, headers, body)
        except TransportError as error:
            raise Unavailable(str(error)) from error

    def _see_epoch(self, epoch: str) -> None:
        """Notice a server that was restored: everything may be elsewhere now."""
        restored = self.epoch is not None and epoch != self.epoch
        self.epoch = epoch
        if restored:
            self._restored(epoch)

    def _wall_s(self) -> float:
        return self._clock.wall_ns() / 1e9


def _as_failure(verdict: Retry | Locked | Rejected) -> Unavailable | LockedOut:
    if isinstance(verdict, Locked):
        return LockedOut(verdict.reason)
    return Unavailable(verdict.reason, verdict.retry_after_s if isinstance(verdict, Retry) else None)
