"""Learns how far the server is with each stream, and makes sure that the files hold what it has."""

from __future__ import annotations

import asyncio

from tracker.protocol.errors import HeaderError

from .alias import check_as
from .answers import StreamOffset, TooLarge
from .ingest_client import IngestClient, Unavailable
from .opening import Refused
from .pieces import Diverged
from .roster import UNREADABLE_S, Roster
from .spool_thread import SPOOL_WAIT_S, SpoolThread
from .streams import Stream

#: Streams asked about in one request; the server takes 10,000.
OFFSETS_PER_REQUEST = 2000


class Positions:
    """Moves streams from "to be asked about" to ready, or parks them."""

    def __init__(self, roster: Roster, client: IngestClient) -> None:
        self._roster = roster
        self._client = client
        self._per_request = OFFSETS_PER_REQUEST

    async def learn(self) -> bool:
        """Learn the next streams' positions. False: nothing learnt, fewer will be asked about at once."""
        chosen = list(self._roster.unlearned.values())[: self._per_request]
        if not chosen:
            return False
        answer = await self._client.offsets(chosen)
        if isinstance(answer, TooLarge):
            if len(chosen) == 1:
                raise Unavailable(answer.reason)
            self._per_request = max(1, len(chosen) // 2)
            return False
        told = {(offset.uid, offset.stream): offset for offset in answer.streams}
        if not any(stream.server_key in told for stream in chosen):
            raise Unavailable("the answer about offsets is about none of the streams that were asked for")
        by_thread: dict[SpoolThread, list[tuple[Stream, StreamOffset]]] = {}
        for stream in chosen:
            offset = told.get(stream.server_key)
            if self._roster.unlearned.get(stream.key) is not stream:
                continue  # gone, found anew, or another lane's by now
            if offset is None:
                self._roster.park(stream, "unanswered", "the server does not say how far it is", UNREADABLE_S)
            else:
                by_thread.setdefault(stream.thread, []).append((stream, offset))
        # Each disk by itself: who does not answer keeps nobody else waiting.
        await asyncio.gather(*(self._compare(thread, group) for thread, group in by_thread.items()))
        return True

    async def _compare(self, thread: SpoolThread, group: list[tuple[Stream, StreamOffset]]) -> None:
        try:
            async with asyncio.timeout(SPOOL_WAIT_S + 0.01 * len(group)):
                complaints = await thread.call(_check_all, group)
        except TimeoutError:
            for stream, _ in group:
                self._roster.park_unreadable(stream, f"{thread.name} does not answer")
            return
        for (stream, offset), complaint in zip(group, complaints, strict=True):
            if self._roster.unlearned.get(stream.key) is not stream:
                continue
            if complaint is None:
                self._roster.learned(stream, offset.next)
            elif isinstance(complaint, Diverged):
                self._roster.park_diverged(stream, str(complaint))
            else:
                self._roster.park_unreadable(stream, str(complaint))


def _check_all(group: list[tuple[Stream, StreamOffset]]) -> list[Exception | None]:
    """Compare files with what the server has. Runs in the spool's thread."""
    complaints: list[Exception | None] = []
    for stream, offset in group:
        tail = stream.entry.tail
        complaint = None
        try:
            if offset.crc is not None and offset.last is not None:
                if stream.alias is None:
                    tail.check(offset.next, offset.last, offset.crc)
                else:
                    check_as(stream, offset.next, offset.last, offset.crc)
                stream.exited = tail.ends_with_exit(offset.next, offset.last)
        except (OSError, Refused, Diverged, HeaderError) as error:
            complaint = error
        complaints.append(complaint)
    return complaints
