"""Who writes each stream, and when they die: locks are asked, and the deaths of their holders are told."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from tracker.protocol.header import HELPER

from .clock import Clock
from .collectors.collector import LiveRun
from .liveness import Deaths
from .streams import Stream, StreamKey


class Writers:
    """The processes that hold the streams' locks.

    look(streams): ask for their locks soon. lives, gone: told of a stream when its writer is seen, or is not.
    died: told of one whose writer was there and is not any more, as early as that is known.
    """

    def __init__(
        self,
        pidfds_max: int,
        clock: Clock,
        look: Callable[[Iterable[Stream]], None],
        lives: Callable[[Stream], None],
        gone: Callable[[Stream], None],
        deaths: Callable[[int, Callable[[int], None]], Deaths] = Deaths,
        died: Callable[[Stream], None] = lambda _: None,
    ) -> None:
        self._clock = clock
        self._look = look
        self._lives = lives
        self._gone = gone
        self._tell_died = died
        self._deaths = deaths(pidfds_max, self._died)
        self._by_pid: dict[int, dict[Stream, None]] = {}
        self._live_runs: dict[StreamKey, LiveRun] = {}

    @property
    def watched(self) -> int:
        """Number of processes whose death will be told."""
        return len(self._deaths)

    def live_runs(self) -> tuple[LiveRun, ...]:
        """Return the writers of runs that are there. May be called from any thread."""
        # A copy of a dict is made in one step as other threads see it; looking through it is not.
        return tuple(self._live_runs.copy().values())

    def see(self, stream: Stream) -> None:
        """Act on who holds a stream's lock, as its entry says."""
        holder = stream.entry.holder
        if holder is None:
            was_live = stream.live
            stream.live = False
            self.forget(stream)
            if was_live:
                stream.died_at = self._clock.monotonic()
                self._tell_died(stream)
            self._gone(stream)
            return
        stream.live = stream.started_live = True
        if stream.own:
            return
        if holder != stream.pid:
            self.forget(stream)
            stream.pid = holder
            if self._deaths.watch(holder):
                self._by_pid.setdefault(holder, {})[stream] = None
                stream.entry.ask_lock = False
                # Its pid may have been another process's by the time it was watched.
                self._look([stream])
        known = self._live_runs.get(stream.key)
        run = stream.header.run
        # The helper beside a training is no part of what the training needs.
        if run is not None and stream.header.role != HELPER and (known is None or known.pid != holder):
            self._live_runs[stream.key] = LiveRun(stream.key, run, holder)
        self._lives(stream)

    def see_again(self, stream: Stream) -> None:
        """Act on a lock that was asked because look() wanted it."""
        if stream.pid not in self._deaths:
            stream.entry.ask_lock = True
        self.see(stream)

    def forget(self, stream: Stream) -> None:
        """Forget a stream's writer."""
        streams = self._by_pid.get(stream.pid)
        if streams is not None:
            streams.pop(stream, None)
            if not streams:
                del self._by_pid[stream.pid]
                self._deaths.forget(stream.pid)
        self._live_runs.pop(stream.key, None)
        stream.pid = 0
        stream.entry.ask_lock = True

    def exited(self, stream: Stream) -> None:
        """Look whether the writer has gone too after its EXIT: its process may live on, as in a notebook."""
        stream.entry.ask_lock = True
        self._look([stream])

    def close(self) -> None:
        """Watch nobody any more."""
        self._deaths.close()

    def _died(self, pid: int) -> None:
        streams = self._by_pid.pop(pid, {})
        for stream in streams:
            self._tell_died(stream)
        self._look(streams)
