"""The uploader sends what was read, in as many requests as the server's answers ask for, and acts on them.

What a server does not take is narrowed down to one line, which is set aside as a gap with the reason given;
everything else goes through.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Sequence

from structlog.typing import FilteringBoundLogger

from .answers import Accepted, Rejected, StreamAnswer, TooLarge
from .batch import Part, halve, line_at, line_ends
from .batcher import BatchLimit
from .clock import Clock
from .counters import Counters
from .ingest_client import IngestClient, LockedOut, Unavailable
from .losses import LossReason
from .pieces import Data, Missing
from .roster import Roster
from .streams import Stream, StreamKey

#: A stream that the server refuses to move this often is parked.
SETBACKS_MAX = 5

#: A server that refuses more lines than these in the time between two probes is broken, not the lines: what
#: it refuses then is kept and tried again later.
REFUSALS_MAX = 16  #: of one stream
REFUSALS_PER_LANE_MAX = 100
#: Where no record was taken since the agent started, the first one that is refused is asked about this often.
SUSPICIONS_MAX = 3
#: Such lines that are remembered.
SUSPECTS_MAX = 1000

_HEADER_START = b"\x93\x00"


class Uploader:
    """Sends parts of a roster's streams, and moves those to where the server says."""

    def __init__(
        self,
        roster: Roster,
        client: IngestClient,
        limit: BatchLimit,
        clock: Clock,
        counters: Counters,
        log: FilteringBoundLogger,
        probe_interval_s: float,
        begin_of: Callable[[Stream], Awaitable[Data | None]],
    ) -> None:
        self._roster = roster
        self._client = client
        self._limit = limit
        self._clock = clock
        self._counters = counters
        self._log = log
        self._probe_interval_s = probe_interval_s
        self._begin_of = begin_of  # the first line of a stream, None where it cannot be read
        self._suspects: dict[tuple[StreamKey, int], int] = {}
        self._refusals: deque[float] = deque(maxlen=REFUSALS_PER_LANE_MAX)

    async def send(self, parts: Sequence[Part]) -> None:
        """Send parts. Raise Unavailable or LockedOut, then their positions must be learnt again."""
        parts = self._still_wanted(parts)
        if not parts:
            return
        verdict = await self._client.ingest(parts)
        if isinstance(verdict, Accepted):
            self._apply(parts, verdict.streams)
            return
        if isinstance(verdict, TooLarge):
            self._counters.failures["too large"] += 1
            self._limit.shrink(sum(part.size for part in parts))
        else:
            self._counters.failures["rejected"] += 1
        await self._narrow(parts, verdict)

    async def _narrow(self, parts: Sequence[Part], refusal: TooLarge | Rejected) -> None:
        """Find the line that the server does not take, and set it aside as a gap."""
        halves = halve(parts)
        if halves is not None:
            await self.send(halves[0])
            await self.send(halves[1])
            return
        part, reason = parts[0], refusal.reason
        if not await self._takes_anything(part.stream):
            raise Unavailable(f"the server refuses what it took before, too: {reason}")
        # It is well. Ask once more about the line: the server may have been mended just now.
        verdict = await self._client.ingest(parts)
        if isinstance(verdict, Accepted):
            self._apply(parts, verdict.streams)
        elif isinstance(part.piece, Missing):
            self._park(part.stream, f"the server refuses a gap: {reason}")
        elif part.piece.data[:2] == _HEADER_START:
            # Without it nothing of its segment could ever be stored.
            self._park(part.stream, f"the server refuses the HEADER of a segment: {reason}")
        elif not self._client.took_records and self._is_suspect(part):
            self._park(part.stream, f"the server has taken no record yet, and refuses this one: {reason}")
        else:
            why = LossReason.TOO_LARGE if isinstance(verdict, TooLarge) else LossReason.REFUSED
            self._refuse(part.stream, part.piece.offset, len(part.piece.data), why.because(verdict.reason))

    async def _takes_anything(self, stream: Stream) -> bool:
        """Return whether a server that refused something takes what it had before: then it is well."""
        known = await self._begin_of(stream) if stream.position else None
        return isinstance(await self._client.ingest([] if known is None else [Part(stream, known)]), Accepted)

    def _is_suspect(self, part: Part) -> bool:
        """Return whether the fault may be the server's. Asked again and again, it must be the line's."""
        line = (part.stream.key, part.offset)
        if len(self._suspects) >= SUSPECTS_MAX:
            self._suspects.clear()
        self._suspects[line] = self._suspects.get(line, 0) + 1
        return self._suspects[line] <= SUSPICIONS_MAX

    def _park(self, stream: Stream, reason: str) -> None:
        self._roster.park(stream, "refused", reason, self._probe_interval_s)

    def _refuse(self, stream: Stream, offset: int, size: int, reason: str) -> None:
        """Set a line aside, unless there is reason to think that the fault is not the line's."""
        now = self._clock.monotonic()
        if now - stream.refusals_since > self._probe_interval_s:
            stream.refusals, stream.refusals_since = 0, now
        if stream.refusals >= REFUSALS_MAX:
            self._park(stream, f"the server refuses record after record: {reason}")
            return
        if len(self._refusals) == REFUSALS_PER_LANE_MAX and now - self._refusals[0] < self._probe_interval_s:
            raise LockedOut(f"the server refuses the records of many streams: {reason}")
        self._refusals.append(now)
        stream.refusals += 1
        self._log.warning(
            "record refused by the server is set aside as a gap",
            stream=stream.id.hex(), run=stream.header.run, offset=offset, bytes=size, reason=reason,
        )  # fmt: skip
        stream.refused[offset] = (size, reason)
        self._roster.ready(stream)

    def _still_wanted(self, parts: Sequence[Part]) -> list[Part]:
        """Leave out what no longer follows on what the server has: an answer came in between."""
        expected: dict[StreamKey, int] = {}
        wanted = []
        for part in parts:
            stream = part.stream
            at = expected.get(stream.key, stream.position)
            refused = isinstance(part.piece, Data) and part.offset in stream.refused
            there = stream in self._roster and stream.learned and stream.parked is None
            if there and part.offset == at and not refused:
                expected[stream.key] = part.piece.end
                wanted.append(part)
            else:
                expected[stream.key] = -1
                self._roster.ready(stream)
        return wanted

    def _apply(self, parts: Sequence[Part], told: Sequence[StreamAnswer]) -> None:
        """Move the streams of a request to where the server says."""
        sent: dict[StreamKey, list[Part]] = {}
        for part in parts:
            sent.setdefault(part.stream.server_key, []).append(part)
        for answer in told:
            own = sent.pop((answer.uid, answer.stream), None)
            if own is None:
                self._counters.failures["answer about a stream that was not sent"] += 1
            elif own[0].stream in self._roster:
                self._apply_one(own[0].stream, own, answer)
        for forgotten in sent.values():
            self._counters.failures["stream left out of an answer"] += 1
            self._doubt(forgotten[0].stream, "the server does not answer for this stream")

    def _doubt(self, stream: Stream, reason: str) -> None:
        """Ask again how far a stream is, for what the server said cannot be; not for ever."""
        stream.setbacks += 1
        if stream.setbacks > SETBACKS_MAX:
            self._roster.park(stream, "stuck", reason, self._probe_interval_s)
        else:
            self._roster.relearn(stream)

    def _apply_one(self, stream: Stream, parts: list[Part], answer: StreamAnswer) -> None:
        start = stream.position
        if answer.error is None or answer.error in ("hole", "bad_lines"):
            if answer.error == "hole":
                self._counters.failures["hole"] += 1
            if answer.next is None or answer.next < start or not _was_sent(parts, answer.next):
                # Others shipped it too, or it lost some: compare before going on.
                self._doubt(stream, f"the server stands at {answer.next}, where nothing that was sent ends")
                return
            self._count(parts, start, answer.next)
            stream.moved_to(answer.next)
            for offset in [offset for offset in stream.refused if offset < answer.next]:
                del stream.refused[offset]
        if stream.position <= start:
            stream.setbacks += 1
            if stream.setbacks > SETBACKS_MAX and stream.parked is None:
                reason = f"the server stays at {stream.position}: {answer.error} {answer.reason}"
                self._roster.park(stream, "stuck", reason, self._probe_interval_s)
                return
        if answer.error == "bad_lines":
            self._refuse_at(stream, parts, answer)
        elif answer.error == "hole":
            self._roster.ready(stream)
        elif answer.error == "diverged":
            self._roster.park_diverged(stream, answer.reason or "no reason given")
        elif answer.error is not None:
            reason = answer.reason or "no reason given"
            self._roster.park(stream, answer.error, reason, self._probe_interval_s)

    def _refuse_at(self, stream: Stream, parts: list[Part], answer: StreamAnswer) -> None:
        at = stream.position if answer.at is None else answer.at
        for part in parts:
            if isinstance(part.piece, Data) and part.offset <= at < part.piece.end:
                offset, size = line_at(part.piece, at)
                why = LossReason.REFUSED.because(answer.reason or "bad lines")
                self._refuse(stream, offset, size, why)
                return
        self._roster.park(stream, "bad_lines", answer.reason, self._probe_interval_s)

    def _count(self, parts: list[Part], start: int, following: int) -> None:
        """Count what the server took."""
        for part in parts:
            if isinstance(part.piece, Data):
                self._counters.add_shipped(part.stream, part.piece, start, following)
            elif part.piece.end <= following:
                self._counters.add_loss(part.piece.reason, part.piece.size)


def _was_sent(parts: Sequence[Part], position: int) -> bool:
    """Return whether something that was sent begins or ends at a position."""
    for part in parts:
        if position in (part.offset, part.piece.end):
            return True
        if part.offset < position < part.piece.end:
            piece = part.piece
            return isinstance(piece, Data) and position - piece.offset in line_ends(piece.data)
    return False
