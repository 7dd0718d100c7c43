"""The uploader sends what was read, in as many requests as the server's answers ask for, and acts on them.

What a server does not take is narrowed down to one line, which is set aside as a gap with the reason given;
everything else goes through.
"""

from __future__ import annotations

from collections.abc import Sequence

from structlog.typing import FilteringBoundLogger

from .answers import Accepted, StreamAnswer, TooLarge
from .batch import Part, halve, line_at
from .batcher import BatchLimit
from .counters import Counters
from .ingest_client import IngestClient, Unavailable
from .losses import LossReason
from .pieces import Data, Missing
from .roster import Roster
from .streams import Stream, StreamKey

#: A stream that the server refuses to move this often is parked.
SETBACKS_MAX = 5


class Uploader:
    """Sends parts of a roster's streams, and moves those to where the server says."""

    def __init__(
        self,
        roster: Roster,
        client: IngestClient,
        limit: BatchLimit,
        counters: Counters,
        log: FilteringBoundLogger,
        probe_interval_s: float,
    ) -> None:
        self._roster = roster
        self._client = client
        self._limit = limit
        self._counters = counters
        self._log = log
        self._probe_interval_s = probe_interval_s

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
        await self._narrow(parts, verdict.reason)

    async def _narrow(self, parts: Sequence[Part], reason: str) -> None:
        """Find the line that the server does not take, and set it aside as a gap."""
        halves = halve(parts)
        if halves is not None:
            await self.send(halves[0])
            await self.send(halves[1])
            return
        part = parts[0]
        if not isinstance(await self._client.ingest([]), Accepted):
            # It takes nothing at all: that says nothing about this line.
            raise Unavailable(f"the server refuses every request: {reason}")
        # It is well. Ask once more about the line: the server may have been mended just now.
        verdict = await self._client.ingest(parts)
        if isinstance(verdict, Accepted):
            self._apply(parts, verdict.streams)
        elif isinstance(part.piece, Missing):
            refusal = f"the server refuses a gap: {reason}"
            self._roster.park(part.stream, "refused", refusal, self._probe_interval_s)
        else:
            self._refuse(part.stream, part.piece.offset, len(part.piece.data), reason)

    def _refuse(self, stream: Stream, offset: int, size: int, reason: str) -> None:
        self._log.warning(
            "record refused by the server is set aside as a gap",
            stream=stream.id.hex(), run=stream.header.run, offset=offset, bytes=size, reason=reason,
        )  # fmt: skip
        stream.refused[offset] = (size, LossReason.REFUSED.because(reason))
        self._roster.ready(stream)

    def _still_wanted(self, parts: Sequence[Part]) -> list[Part]:
        """Leave out what no longer follows on what the server has: an answer came in between."""
        expected: dict[StreamKey, int] = {}
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
                self._roster.ready(stream)
        return wanted

    def _apply(self, parts: Sequence[Part], told: Sequence[StreamAnswer]) -> None:
        """Move the streams of a request to where the server says."""
        sent: dict[StreamKey, list[Part]] = {}
        for part in parts:
            sent.setdefault(part.stream.key, []).append(part)
        for answer in told:
            own = sent.pop((answer.uid, answer.stream), None)
            if own is not None:
                self._apply_one(own[0].stream, own, answer)
        for forgotten in sent.values():
            self._roster.relearn(forgotten[0].stream)

    def _apply_one(self, stream: Stream, parts: list[Part], answer: StreamAnswer) -> None:
        start = stream.position
        if answer.error is None or answer.error in ("hole", "bad_lines"):
            if answer.next is None or answer.next > parts[-1].piece.end:
                self._roster.relearn(stream)  # others shipped it too: compare before going on
            else:
                self._count(parts, start, answer.next)
                stream.position = answer.next
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
            self._counters.failures["hole"] += 1
            self._roster.ready(stream)
        elif answer.error is not None:
            pause = None if answer.error == "diverged" else self._probe_interval_s
            self._roster.park(stream, answer.error, answer.reason or "no reason given", pause)

    def _refuse_at(self, stream: Stream, parts: list[Part], answer: StreamAnswer) -> None:
        at = stream.position if answer.at is None else answer.at
        for part in parts:
            if isinstance(part.piece, Data) and part.offset <= at < part.piece.end:
                offset, size = line_at(part.piece, at)
                self._refuse(stream, offset, size, answer.reason or "bad lines")
                return
        self._roster.park(stream, "bad_lines", answer.reason, self._probe_interval_s)

    def _count(self, parts: list[Part], start: int, following: int) -> None:
        """Count what the server took."""
        for part in parts:
            if isinstance(part.piece, Data):
                self._counters.bytes_shipped += max(
                    0, min(part.piece.end, following) - max(part.offset, start)
                )
            elif part.piece.end <= following:
                self._counters.add_loss(part.piece.reason, part.piece.size)
