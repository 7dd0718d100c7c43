"""Where each stream of a lane stands: to be asked about, ready, hot, aloft or parked.

For the event loop only.
"""

from __future__ import annotations

import asyncio

from structlog.typing import FilteringBoundLogger

from .clock import Clock
from .streams import Parked, Stream, StreamKey

#: A file that cannot be read is tried again after this time.
UNREADABLE_S = 10.0
#: A stream that the server has otherwise is asked about again after this time, should that have been a lie.
DIVERGED_S = 300.0


class Roster:
    """The streams of a lane. `changed` is set whenever there may be something new to do."""

    def __init__(self, clock: Clock, log: FilteringBoundLogger) -> None:
        self.streams: dict[StreamKey, Stream] = {}
        self.unlearned: dict[StreamKey, Stream] = {}  #: the server has to be asked how far they are
        self.waiting: dict[StreamKey, Stream] = {}  #: may have more to ship; who waited longest comes first
        self.changed = asyncio.Event()
        self._hot: dict[StreamKey, Stream] = {}  # looked at with every flush, without waiting to be told
        self._parked: dict[StreamKey, Stream] = {}
        self._aloft: dict[StreamKey, Stream] = {}  # in a request: nobody else may read them now
        self._again: set[StreamKey] = set()  # aloft, and there may be more
        self._clock = clock
        self._log = log

    def __contains__(self, stream: Stream) -> bool:
        return self.streams.get(stream.key) is stream

    @property
    def has_work(self) -> bool:
        """Whether there is something to ask or to ship."""
        return bool(self.waiting or self.unlearned)

    @property
    def has_hot(self) -> bool:
        """Whether there are streams to look at with the next flush."""
        return bool(self._hot)

    def add(self, stream: Stream) -> None:
        """Ship this stream too."""
        stream.learned = False
        self.streams[stream.key] = stream
        self.unlearned[stream.key] = stream
        self.changed.set()

    def remove(self, stream: Stream) -> None:
        """Forget a stream."""
        everywhere = (self.streams, self.waiting, self._hot, self.unlearned, self._parked, self._aloft)
        for streams in everywhere:
            if streams.get(stream.key) is stream:
                del streams[stream.key]

    def ready(self, stream: Stream) -> None:
        """Tell that a stream may have more to ship."""
        if stream not in self:
            return  # it has moved to another lane since
        if stream.key in self._aloft:
            self._again.add(stream.key)
        elif stream.learned and stream.parked is None:
            self.waiting.setdefault(stream.key, stream)
            self.changed.set()

    def relearn_all(self) -> None:
        """Trust nothing that was known."""
        for stream in list(self.streams.values()):
            self.relearn(stream)

    def relearn(self, stream: Stream) -> None:
        """Ask the server again how far a stream is, and compare; parked or not."""
        if stream in self:
            stream.learned = False
            self.waiting.pop(stream.key, None)
            self._hot.pop(stream.key, None)
            self._parked.pop(stream.key, None)
            stream.parked = None
            if stream.key not in self._aloft:
                self.unlearned[stream.key] = stream
                self.changed.set()

    def learned(self, stream: Stream, position: int) -> None:
        """Tell where the server wants a stream to go on; its files were compared with that."""
        self.unlearned.pop(stream.key, None)
        stream.parked = None
        stream.learned = True
        stream.moved_to(position)
        stream.pending = stream.bytes_behind
        self.ready(stream)

    # Aloft: read and on its way, one request at a time, for the order within a stream is kept.

    def board(self, stream: Stream) -> None:
        """Take a stream off the waiting ones, into a request."""
        self.waiting.pop(stream.key, None)
        self._aloft[stream.key] = stream

    def land(self, stream: Stream) -> None:
        """Note that the request is over, however it ended."""
        if self._aloft.get(stream.key) is not stream:
            return
        del self._aloft[stream.key]
        again = stream.key in self._again
        self._again.discard(stream.key)
        if stream in self and stream.parked is None:
            if not stream.learned:
                self.unlearned[stream.key] = stream
            elif again:
                self.ready(stream)
        self.changed.set()

    # Hot: a stream that just brought something is expected to bring more.

    def keep_hot(self, stream: Stream) -> None:
        """Look at a stream with every flush until its hot_until."""
        if stream in self:
            self._hot[stream.key] = stream

    def cool(self, stream: Stream) -> None:
        """Look at a stream only when told to."""
        self._hot.pop(stream.key, None)

    def rouse_hot(self) -> None:
        """Make the hot streams ready, for it is time to flush."""
        now = self._clock.monotonic()
        for key, stream in list(self._hot.items()):
            if key in self._aloft:
                continue  # it will be hot again when it lands
            if now >= stream.hot_until and stream.stuck is None:
                del self._hot[key]
            else:
                self.waiting.setdefault(key, stream)

    # Parked: left alone for a reason that is shown.

    def park(self, stream: Stream, code: str, reason: str, pause_s: float | None) -> None:
        """Leave a stream alone for a time, with None until something changes."""
        if stream not in self:
            return
        until = None if pause_s is None else self._clock.monotonic() + pause_s
        if stream.parked is None or (stream.parked.code, stream.parked.reason) != (code, reason):
            self._log.warning(
                "stream parked", stream=stream.id.hex(), run=stream.header.run, code=code, reason=reason
            )
        stream.parked = Parked(code, reason, until)
        stream.refused.clear()
        self.waiting.pop(stream.key, None)
        self._hot.pop(stream.key, None)
        self.unlearned.pop(stream.key, None)
        self._parked[stream.key] = stream

    def park_unreadable(self, stream: Stream, reason: str) -> None:
        """Leave a stream alone whose files cannot be read, for a short time."""
        self.park(stream, "unreadable", reason, UNREADABLE_S)

    def park_diverged(self, stream: Stream, reason: str) -> None:
        """Leave a stream alone that the server has otherwise."""
        self.park(stream, "diverged", reason, DIVERGED_S)

    def unpark(self) -> None:
        """Take up again the streams whose time has come."""
        now = self._clock.monotonic()
        for stream in list(self._parked.values()):
            if stream.parked is None:
                del self._parked[stream.key]
            elif (
                stream.parked.until is not None
                and stream.parked.until <= now
                and stream.key not in self._aloft
            ):
                del self._parked[stream.key]
                stream.learned = False
                stream.setbacks = 0
                self.unlearned[stream.key] = stream

    async def wait(self, most_s: float) -> None:
        """Wait for something to change, for the time of a parked stream, or for so many seconds."""
        self.changed.clear()
        times = [s.parked.until for s in self._parked.values() if s.parked and s.parked.until is not None]
        pause_s = min([most_s, *(max(0.0, at - self._clock.monotonic()) for at in times)])
        try:
            async with asyncio.timeout(pause_s):
                await self.changed.wait()
        except TimeoutError:
            pass
