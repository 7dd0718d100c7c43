"""A Lane ships the streams of one credential: learns where the server is, sends, and acts on what it answers.

Nothing is held here that a crash could lose. A position moves only by the server's word, and after any
failure it is learnt again.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from structlog.typing import FilteringBoundLogger

from tracker.protocol.reader import DAMAGE_WAIT_S

from . import answers
from .answers import Accepted, Locked, Offsets, Rejected, Retry, StreamAnswer, StreamOffset, TooLarge
from .batch import Part, encode, halve, line_at, set_aside
from .batcher import Candidate, flush_at, plan
from .clock import Clock
from .counters import Counters
from .credentials import Credential
from .own_stream import Identity
from .retry import Backoff
from .streams import Parked, Stream
from .tailer import Data, Diverged, Missing, Piece, Reading, Refused, State
from .transport import Answer, TransportError

#: Streams asked about in one request; the server takes 10,000.
OFFSETS_PER_REQUEST = 2000
#: A stream that had data is read at every flush for this long, without waiting to be told.
HOT_S = 2.0
#: A file that cannot be read is tried again after this time.
UNREADABLE_S = 10.0
#: A stream that the server refuses to move this often is parked.
SETBACKS_MAX = 5
#: After this many good requests the size limit that a 413 lowered may rise again.
GROW_AFTER = 50
BATCH_BYTES_MIN = 1024
#: Reading waits for a spool's thread no longer than this; a hung mount is left out.
SPOOL_WAIT_S = 5.0


class Sender(Protocol):
    """What a lane needs of the transport."""

    url: str

    async def request(
        self, method: str, path: str, headers: dict[str, str], body: bytes | None = None
    ) -> Answer:
        """Send one request. Raise TransportError."""
        ...


class Unavailable(Exception):
    """The server cannot be reached or is not well: try again, for ever."""

    def __init__(self, reason: str, retry_after_s: float | None = None) -> None:
        super().__init__(reason)
        self.retry_after_s = retry_after_s


class LockedOut(Exception):
    """The key or the address is wrong: keep everything and look again now and then."""


@dataclass(frozen=True)
class LaneSettings:
    """What a lane is told. Times in seconds."""

    flush_interval_s: float
    batch_bytes: int
    probe_interval_s: float
    retry_first_s: float
    retry_max_s: float


class Lane:
    """Streams that travel with one key. Everything happens in one event loop."""

    def __init__(  # noqa: PLR0913, PLR0917 - its collaborators; nobody else makes one
        self,
        credential: Credential,
        sender: Sender,
        settings: LaneSettings,
        identity: Identity,
        clock: Clock,
        counters: Counters,
        log: FilteringBoundLogger,
        ended: Callable[[Stream], None],
        exited: Callable[[Stream], None],
        restored: Callable[[], None],
    ) -> None:
        self.credential = credential
        self.streams: dict[tuple[int, bytes], Stream] = {}
        self.state = "connecting"
        self.reason = ""
        self.batch_bytes = settings.batch_bytes
        self.epoch: str | None = None
        self.in_flight = False
        self.turned_at = clock.monotonic()
        self._contact_at: float | None = None
        self._closed = False
        self._sender = sender
        self._settings = settings
        self._identity = identity
        self._clock = clock
        self._counters = counters
        self._log = log.bind(credential=credential.name, server=sender.url)
        self._ended = ended
        self._exited = exited
        self._restored = restored
        self._backoff = Backoff(settings.retry_first_s, settings.retry_max_s)
        self._next_try: float | None = None
        self._wake = asyncio.Event()
        self._ready: dict[tuple[int, bytes], Stream] = {}  # in the order of who waited longest
        self._hot: dict[tuple[int, bytes], Stream] = {}
        self._unlearned: dict[tuple[int, bytes], Stream] = {}
        self._parked: dict[tuple[int, bytes], Stream] = {}
        self._last_flush = -1e9
        self._successes = 0
        self._offsets_per_request = OFFSETS_PER_REQUEST

    # What the pipeline tells a lane.

    def add(self, stream: Stream) -> None:
        """Ship this stream too."""
        stream.learned = False
        self.streams[stream.key] = stream
        self._unlearned[stream.key] = stream
        self._wake.set()

    def remove(self, stream: Stream) -> None:
        """Forget a stream."""
        for streams in (self.streams, self._ready, self._hot, self._unlearned, self._parked):
            if streams.get(stream.key) is stream:
                del streams[stream.key]

    def ready(self, stream: Stream) -> None:
        """Tell that a stream may have more to ship."""
        if stream.learned and stream.parked is None:
            self._ready.setdefault(stream.key, stream)
            self._wake.set()

    def relearn_all(self) -> None:
        """Trust nothing that was known."""
        for stream in list(self.streams.values()):
            self.relearn(stream)

    def relearn(self, stream: Stream) -> None:
        """Ask the server again how far a stream is, and compare."""
        if self.streams.get(stream.key) is stream:
            stream.learned = False
            self._ready.pop(stream.key, None)
            self._hot.pop(stream.key, None)
            self._parked.pop(stream.key, None)
            stream.parked = None
            self._unlearned[stream.key] = stream
            self._wake.set()

    def close(self) -> None:
        """Send nothing more after the request that is in flight."""
        self._closed = True
        self._wake.set()

    @property
    def next_try_s(self) -> float | None:
        """Seconds until the server is tried again, None when it is not waiting."""
        return None if self._next_try is None else max(0.0, self._next_try - self._clock.monotonic())

    @property
    def last_contact_s(self) -> float | None:
        """Seconds since the server last took or told something, None before the first time."""
        return None if self._contact_at is None else self._clock.monotonic() - self._contact_at

    @property
    def has_work(self) -> bool:
        """Whether the loop should be turning: there is something to do, and no pause before doing it."""
        return self._next_try is None and bool(self._ready or self._unlearned) and not self._closed

    # The loop.

    async def run(self) -> None:
        """Ship until close() is called."""
        self.relearn_all()
        while not self._closed:
            try:
                await self._check_server()
                while not self._closed:
                    await self._turn()
                return
            except Unavailable as error:
                pause = self._backoff.failure(error.retry_after_s)
                self._fail("retrying", str(error))
            except LockedOut as error:
                pause = self._settings.probe_interval_s
                self._fail("parked", str(error))
            self._next_try = self._clock.monotonic() + pause
            await asyncio.sleep(pause)
            self._next_try = None
            self.turned_at = self._clock.monotonic()

    def _fail(self, state: str, reason: str) -> None:
        if (state, reason) != (self.state, self.reason):
            self._log.warning("server refuses" if state == "parked" else "server unavailable", reason=reason)
        self.state, self.reason = state, reason
        self._counters.failures[state] += 1

    def _well(self) -> None:
        if self.state != "shipping":
            self._log.info("shipping", after=self.reason or self.state)
        self.state, self.reason = "shipping", ""
        self._contact_at = self._clock.monotonic()
        self._backoff.success()

    async def _check_server(self) -> None:
        """Make sure that a Tracker server is at the other end before anything is sent there."""
        if self.credential.key is None:
            raise LockedOut("no key: set server.key or server.key_file, or leave a key in the spool")
        answer = answers.parse_server(await self._request("GET", "/api/v1/server", {}), self._wall_s())
        if isinstance(answer, Retry):
            raise Unavailable(answer.reason, answer.retry_after_s)
        if isinstance(answer, Locked):
            raise LockedOut(answer.reason)
        self._see_epoch(answer.epoch)

    def _see_epoch(self, epoch: str) -> None:
        """Notice a server that was restored: everything may be elsewhere now."""
        if self.epoch is not None and epoch != self.epoch:
            self._log.warning("the server was restored: learning all positions again", epoch=epoch)
            for stream in self.streams.values():
                stream.ended = False
            self.relearn_all()
            self._restored()
        self.epoch = epoch

    async def _turn(self) -> None:
        """Learn what has to be learnt, then send one request's worth, or wait for a reason to."""
        self.turned_at = self._clock.monotonic()
        self._unpark()
        if self._unlearned:
            await self._learn()
            return
        now = self._clock.monotonic()
        for key, stream in list(self._hot.items()):
            if now >= stream.hot_until and stream.stuck is None:
                del self._hot[key]
            else:
                self._ready.setdefault(key, stream)
        if not self._ready:
            self._wake.clear()
            await self._sleep_until(self._first_unpark())
            self.turned_at = self._clock.monotonic()
            return
        full = sum(stream.pending for stream in self._ready.values()) >= self.batch_bytes
        due = flush_at(now, self._last_flush, self._settings.flush_interval_s, full)
        if due > now:
            await asyncio.sleep(due - now)
        self._last_flush = self._clock.monotonic()
        parts, readings = await self._read()
        if parts:
            try:
                await self._send(parts)
            except (Unavailable, LockedOut):
                for stream, _ in readings:
                    self.relearn(stream)
                raise
            self._well()
            self._after_success()
        self._settle(readings)

    async def _sleep_until(self, when: float | None) -> None:
        pause = None if when is None else max(0.0, when - self._clock.monotonic())
        try:
            async with asyncio.timeout(pause):
                await self._wake.wait()
        except TimeoutError:
            pass

    # Parking one stream.

    def _park(self, stream: Stream, code: str, reason: str, pause_s: float | None) -> None:
        until = None if pause_s is None else self._clock.monotonic() + pause_s
        if stream.parked is None or (stream.parked.code, stream.parked.reason) != (code, reason):
            self._log.warning(
                "stream parked", stream=stream.id.hex(), run=stream.header.run, code=code, reason=reason
            )
        stream.parked = Parked(code, reason, until)
        stream.refused.clear()
        self._ready.pop(stream.key, None)
        self._hot.pop(stream.key, None)
        self._unlearned.pop(stream.key, None)
        self._parked[stream.key] = stream

    def _unpark(self) -> None:
        now = self._clock.monotonic()
        for stream in list(self._parked.values()):
            if stream.parked is None:
                del self._parked[stream.key]
            elif stream.parked.until is not None and stream.parked.until <= now:
                del self._parked[stream.key]
                stream.learned = False
                self._unlearned[stream.key] = stream

    def _first_unpark(self) -> float | None:
        times = [s.parked.until for s in self._parked.values() if s.parked and s.parked.until is not None]
        return min(times, default=None)

    # Learning.

    async def _learn(self) -> None:
        """Ask the server how far some streams are, and compare with the files."""
        chosen = list(self._unlearned.values())[: self._offsets_per_request]
        asked = {
            "machine": self._identity.machine,
            "host": self._identity.host,
            "agent": self._identity.version,
            "streams": [{"uid": stream.uid, "stream": stream.id.hex()} for stream in chosen],
        }
        headers = {"Content-Type": "application/json"}
        answer = answers.parse_offsets(
            await self._request("POST", "/api/v1/streams/offsets", headers, json.dumps(asked).encode()),
            self._wall_s(),
        )
        if isinstance(answer, TooLarge) and len(chosen) > 1:
            self._offsets_per_request = max(1, len(chosen) // 2)
            return
        if not isinstance(answer, Offsets):
            raise _as_failure(answer)
        self._see_epoch(answer.epoch)
        told = {(offset.uid, offset.stream): offset for offset in answer.streams}
        by_thread: dict[object, list[tuple[Stream, StreamOffset]]] = {}
        for stream in chosen:
            offset = told.get(stream.key)
            if offset is None:
                self._park(stream, "unanswered", "the server does not say how far it is", UNREADABLE_S)
            elif stream.key in self._unlearned:
                by_thread.setdefault(stream.thread, []).append((stream, offset))
        for group in by_thread.values():
            await self._compare(group)
        self._well()

    async def _compare(self, group: list[tuple[Stream, StreamOffset]]) -> None:
        thread = group[0][0].thread
        try:
            async with asyncio.timeout(SPOOL_WAIT_S + 0.01 * len(group)):
                complaints = await thread.call(_check_all, group)
        except TimeoutError:
            for stream, _ in group:
                self._park(stream, "unreadable", f"{thread.name} does not answer", UNREADABLE_S)
            return
        for (stream, offset), complaint in zip(group, complaints, strict=True):
            if self.streams.get(stream.key) is not stream:
                continue
            self._unlearned.pop(stream.key, None)
            if complaint is not None:
                code, reason = complaint
                self._park(stream, code, reason, None if code == "diverged" else UNREADABLE_S)
                continue
            stream.parked = None
            stream.learned = True
            stream.position = offset.next
            stream.pending = stream.bytes_behind
            self.ready(stream)

    # Reading.

    async def _read(self) -> tuple[list[Part], list[tuple[Stream, Reading]]]:
        """Read the next request's parts. What is read moves nothing until the server has it."""
        now = self._clock.monotonic()
        streams = list(self._ready.values())
        candidates = [
            Candidate(stream.key, stream.live or _fresh(stream, now), stream.pending) for stream in streams
        ]
        by_thread: dict[object, list[tuple[Stream, int, bool]]] = {}
        for allotment in plan(candidates, self.batch_bytes):
            stream = self._ready.pop(allotment.key)
            waited = stream.stuck is not None and (
                stream.stuck[0] == stream.position and now - stream.stuck[1] >= DAMAGE_WAIT_S
            )
            by_thread.setdefault(stream.thread, []).append((stream, allotment.limit, waited))
        parts: list[Part] = []
        readings: list[tuple[Stream, Reading]] = []
        for group in by_thread.values():
            thread = group[0][0].thread
            requests = [
                (stream, stream.position, stream.live, limit, waited) for stream, limit, waited in group
            ]
            try:
                async with asyncio.timeout(SPOOL_WAIT_S):
                    results = await thread.call(_read_all, requests, self.batch_bytes)
            except TimeoutError:
                for stream, _, _ in group:
                    self._park(stream, "unreadable", f"{thread.name} does not answer", UNREADABLE_S)
                continue
            for (stream, _, _), result in zip(group, results, strict=True):
                if self.streams.get(stream.key) is not stream or not stream.learned:
                    continue
                if result is None:
                    self._ready[stream.key] = stream  # the request was full
                elif isinstance(result, Reading):
                    parts += [Part(stream, piece) for piece in set_aside(result.pieces, stream.refused)]
                    readings.append((stream, result))
                elif isinstance(result, Diverged):
                    self._park(stream, "diverged", str(result), None)
                else:
                    self._park(stream, "unreadable", str(result), UNREADABLE_S)
        return parts, readings

    def _settle(self, readings: Sequence[tuple[Stream, Reading]]) -> None:
        """Decide when each stream that was read is looked at again."""
        now = self._clock.monotonic()
        for stream, reading in readings:
            if not stream.learned or stream.parked is not None or self.streams.get(stream.key) is not stream:
                continue
            if stream.position != reading.position:
                self.ready(stream)  # the server wants to go on elsewhere
                continue
            self._settle_one(stream, reading, now)

    def _settle_one(self, stream: Stream, reading: Reading, now: float) -> None:
        # A busy stream is expected to bring as much again until the next flush.
        stream.pending = reading.pending or sum(_piece_bytes(piece) for piece in reading.pieces)
        if reading.pieces:
            stream.setbacks = 0
            stream.exited = reading.exited
            if stream.exited and stream.live:
                self._exited(stream)
        if reading.state is State.MORE:
            self.ready(stream)
            return
        if reading.state is State.END:
            self._hot.pop(stream.key, None)
            stream.stuck = None
            if not stream.ended:
                stream.ended = True
                self._ended(stream)
            return
        if reading.stuck:
            if stream.stuck is None or stream.stuck[0] != stream.position:
                stream.stuck = (stream.position, now)
                stream.hot_until = now + DAMAGE_WAIT_S + 2 * self._settings.flush_interval_s
            elif now >= stream.hot_until:
                self._hot.pop(stream.key, None)
                return
        else:
            stream.stuck = None
        if reading.pieces:
            stream.hot_until = max(stream.hot_until, now + HOT_S)
        if now < stream.hot_until:
            self._hot[stream.key] = stream

    # Sending.

    async def _send(self, parts: Sequence[Part]) -> None:
        """Send parts, in as many requests as the server's answers ask for."""
        parts = self._still_wanted(parts)
        if not parts:
            return
        verdict = await self._post(parts)
        if isinstance(verdict, Accepted):
            self._see_epoch(verdict.epoch)
            self._apply(parts, verdict.streams)
        elif isinstance(verdict, TooLarge | Rejected):
            if isinstance(verdict, TooLarge):
                self._counters.failures["too large"] += 1
                self._successes = 0
                self.batch_bytes = max(BATCH_BYTES_MIN, min(self.batch_bytes, _size(parts)) // 2)
            else:
                self._counters.failures["rejected"] += 1
            await self._narrow(parts, verdict.reason)
        else:
            raise _as_failure(verdict)

    async def _narrow(self, parts: Sequence[Part], reason: str) -> None:
        """Find the line that the server does not take, and set it aside as a gap."""
        halves = halve(parts)
        if halves is not None:
            await self._send(halves[0])
            await self._send(halves[1])
            return
        part = parts[0]
        if not isinstance(await self._post([]), Accepted):
            # It takes nothing at all: that says nothing about this line.
            raise Unavailable(f"the server refuses every request: {reason}")
        # It is well. Ask once more about the line: the server may have been mended just now.
        verdict = await self._post(parts)
        if isinstance(verdict, Accepted):
            self._apply(parts, verdict.streams)
            return
        if not isinstance(verdict, TooLarge | Rejected):
            raise _as_failure(verdict)
        if isinstance(part.piece, Missing):
            self._park(
                part.stream, "refused", f"the server refuses a gap: {reason}", self._settings.probe_interval_s
            )
            return
        self._refuse(part.stream, part.piece.offset, len(part.piece.data), reason)

    def _refuse(self, stream: Stream, offset: int, size: int, reason: str) -> None:
        self._log.warning(
            "record refused by the server is set aside as a gap",
            stream=stream.id.hex(), run=stream.header.run, offset=offset, bytes=size, reason=reason,
        )  # fmt: skip
        stream.refused[offset] = (size, f"refused by the server: {reason}"[:500])
        self.ready(stream)

    def _still_wanted(self, parts: Sequence[Part]) -> list[Part]:
        """Leave out what no longer follows on what the server has: an answer came in between."""
        expected: dict[tuple[int, bytes], int] = {}
        wanted = []
        for part in parts:
            stream = part.stream
            at = expected.get(stream.key, stream.position)
            refused = isinstance(part.piece, Data) and part.offset in stream.refused
            if stream.learned and stream.parked is None and part.offset == at and not refused:
                expected[stream.key] = part.piece.end
                wanted.append(part)
            else:
                expected[stream.key] = -1
                self.ready(stream)
        return wanted

    def _apply(self, parts: Sequence[Part], told: Sequence[StreamAnswer]) -> None:
        """Move the streams of a request to where the server says."""
        sent: dict[tuple[int, bytes], list[Part]] = {}
        for part in parts:
            sent.setdefault(part.stream.key, []).append(part)
        for answer in told:
            own = sent.pop((answer.uid, answer.stream), None)
            if own is not None:
                self._apply_one(own[0].stream, own, answer)
        for forgotten in sent.values():
            self.relearn(forgotten[0].stream)

    def _apply_one(self, stream: Stream, parts: list[Part], answer: StreamAnswer) -> None:
        start = stream.position
        if answer.error is None or answer.error in ("hole", "bad_lines"):
            if answer.next is None or answer.next > parts[-1].piece.end:
                self.relearn(stream)  # others shipped it too: compare before going on
            else:
                self._count(parts, start, answer.next)
                stream.position = answer.next
                for offset in [offset for offset in stream.refused if offset < answer.next]:
                    del stream.refused[offset]
        if stream.position <= start:
            stream.setbacks += 1
            if stream.setbacks > SETBACKS_MAX and stream.parked is None:
                reason = f"the server stays at {stream.position}: {answer.error} {answer.reason}"
                self._park(stream, "stuck", reason, self._settings.probe_interval_s)
                return
        if answer.error == "bad_lines":
            self._refuse_at(stream, parts, answer)
        elif answer.error == "hole":
            self._counters.failures["hole"] += 1
            self.ready(stream)
        elif answer.error is not None:
            pause = None if answer.error == "diverged" else self._settings.probe_interval_s
            self._park(stream, answer.error, answer.reason or "no reason given", pause)

    def _refuse_at(self, stream: Stream, parts: list[Part], answer: StreamAnswer) -> None:
        at = stream.position if answer.at is None else answer.at
        for part in parts:
            if isinstance(part.piece, Data) and part.offset <= at < part.piece.end:
                offset, size = line_at(part.piece, at)
                self._refuse(stream, offset, size, answer.reason or "bad lines")
                return
        self._park(stream, "bad_lines", answer.reason, self._settings.probe_interval_s)

    def _count(self, parts: list[Part], start: int, following: int) -> None:
        """Count what the server took."""
        for part in parts:
            if isinstance(part.piece, Data):
                self._counters.bytes_shipped += max(
                    0, min(part.piece.end, following) - max(part.offset, start)
                )
            elif part.piece.end <= following:
                self._counters.add_loss(part.piece.reason, part.piece.size)

    async def _post(self, parts: Sequence[Part]) -> Accepted | Retry | Locked | TooLarge | Rejected:
        body = await asyncio.to_thread(
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
        return answers.parse_ingest(answer, self._wall_s())

    async def _request(
        self, method: str, path: str, headers: dict[str, str], body: bytes | None = None
    ) -> Answer:
        headers |= {
            "X-Tracker-Agent": self._identity.version,
            "X-Tracker-Protocol": str(answers.PROTOCOL_VERSION),
        }
        if method != "GET":
            headers["Authorization"] = f"Bearer {self.credential.key}"
        try:
            return await self._sender.request(method, path, headers, body)
        except TransportError as error:
            raise Unavailable(str(error)) from error

    def _after_success(self) -> None:
        self._successes += 1
        if self.batch_bytes < self._settings.batch_bytes and self._successes >= GROW_AFTER:
            self._successes = 0
            self.batch_bytes = min(self._settings.batch_bytes, 2 * self.batch_bytes)

    def _wall_s(self) -> float:
        return self._clock.wall_ns() / 1e9


def _as_failure(verdict: Retry | Locked | TooLarge | Rejected) -> Unavailable | LockedOut:
    if isinstance(verdict, Locked):
        return LockedOut(verdict.reason)
    return Unavailable(verdict.reason, verdict.retry_after_s if isinstance(verdict, Retry) else None)


def _piece_bytes(piece: Piece) -> int:
    return len(piece.data) if isinstance(piece, Data) else 0


def _size(parts: Sequence[Part]) -> int:
    return sum(part.size for part in parts)


def _fresh(stream: Stream, now: float) -> bool:
    """Return whether the end of a run is still news."""
    return stream.died_at is not None and now - stream.died_at < 60.0


def _check_all(group: list[tuple[Stream, StreamOffset]]) -> list[tuple[str, str] | None]:
    """Compare files with what the server has. Runs in the spool's thread."""
    complaints: list[tuple[str, str] | None] = []
    for stream, offset in group:
        tail = stream.entry.tail
        complaint = None
        try:
            if offset.crc is not None and offset.last is not None:
                tail.check(offset.next, offset.last, offset.crc)
                stream.exited = tail.ends_with_exit(offset.next, offset.last)
        except Diverged as error:
            complaint = ("diverged", str(error))
        except (OSError, Refused) as error:
            complaint = ("unreadable", str(error))
        complaints.append(complaint)
    return complaints


def _read_all(
    requests: list[tuple[Stream, int, bool, int, bool]], total: int
) -> list[Reading | Exception | None]:
    """Read from some streams until the request is full. Runs in the spool's thread."""
    results: list[Reading | Exception | None] = []
    for stream, position, live, limit, waited in requests:
        if total <= 0:
            results.append(None)
            continue
        try:
            reading = stream.entry.tail.read(position, limit, live, waited)
            total -= sum(len(piece.data) for piece in reading.pieces if isinstance(piece, Data))
            results.append(reading)
        except (OSError, Refused, Diverged) as error:
            results.append(error)
    return results
