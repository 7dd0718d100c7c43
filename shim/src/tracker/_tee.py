"""The tee: reads what a program writes, shows it where it would have been shown, and records it.

It runs in processes of its own (see _guard.py), which outlive the program: so the last words of a crash are
recorded, and a killed tee is replaced before the program notices. What was read and not yet shown lies in
memory that they share. Where the original can no longer be written to, the program gets it back, and meets
the error itself.
"""

import os
import select
import signal
import time
from typing import Any, Dict, List, Optional

from ._clock import monotonic_ns, time_ns
from ._console_log import ConsoleLog
from ._guard import ORPHANED, is_orphaned, keep_working
from ._helper_client import started_at
from ._recorder import Recorder, Records
from ._spool import RunPlace
from ._tee_stream import Stream
from .protocol.bodies import Lost, Run
from .protocol.kinds import LOST, RUN

#: After the program's end what others write, who have its descriptors still, is recorded for so long.
LINGER_S = 5.0
#: Whether the program and the guard live, where nothing tells, is looked at so often.
LOOK_INTERVAL_S = 1.0
#: So often where there is a terminal, whose size may change.
WINDOW_INTERVAL_S = 0.25
#: A pseudo-terminal hands on what was written a moment later: quiet for so long, there is no more.
SETTLED_S = 0.002

#: What the tee says once it reads, and to requests of the program: it is done.
BEGUN = b"b"
#: Requests of the program: show all there is and say so; the same, and then record no more; it has a
#: stream back.
DRAIN, FINISH = b"d", b"f"
GIVEN_BACK = {1: b"1", 2: b"2"}
#: What the worker returns when all is done; and, added to numbers of streams, that those lost their reader.
DONE, CLOSE = 0, 16

_KILLED = "the process that records the console was killed: what it had read last is missing"


def run(spec: Dict[str, Any], recorder: Recorder, stop: Any) -> None:  # noqa: ARG001 - the shape of all tasks
    """Work until nobody can write to the channels any more. Called in a process without other threads."""
    Tee(spec, recorder.place).run()


class Tee:
    """Works through the channels of one program, in whichever process this is."""

    def __init__(self, spec: Dict[str, Any], place: RunPlace) -> None:
        """spec: descriptors, streams, fields as _console.py makes them; the program's pid and `started`."""
        descriptors = spec["descriptors"]
        self._control: int = descriptors["control"]
        #: Its other end is the program's: told of streams to take back; closed when no tee is left.
        self.notice: int = descriptors["notice"]
        self._streams = [
            Stream(number, descriptors["source%d" % number], descriptors["original%d" % number], terminal)
            for number, terminal in spec["streams"]
        ]
        self._place = place
        self._fields: Dict[str, str] = spec["fields"]
        self._pid: int = spec["pid"]
        self._started: str = spec["started"] if "started" in spec else spec["process"]["started"]
        self._recorder: Optional[Recorder] = None
        self._log: Optional[ConsoleLog] = None
        self._asked = False
        self._finishing = False
        self._quiet_since = 0.0
        self._over_at: Optional[float] = None
        self._look_at = 0.0

    def run(self) -> None:
        """Work until all is done, in processes that no signal but SIGKILL ends."""
        _ignore_signals()
        self.guard()

    def guard(self) -> None:
        """Guard the worker, in this process; return when all is done."""
        keep_working(self.work, self.goes_on)

    def goes_on(self, status: int) -> bool:
        """Close the sources that a worker gave up. Return whether there is more to do for another one."""
        if not status & CLOSE:
            return False
        for stream in self._streams:
            if status & stream.number:
                stream.close_source()
        return not self._is_finished()

    def work(self, guard: int, again: bool) -> int:
        """Be the worker until the end, or until the guard is gone."""
        _ignore_signals()
        try:
            os.setsid()  # no signal to the guard's group is meant for this
        except OSError:
            pass
        self._open(again)
        try:
            self._say(BEGUN)
            return self._work(guard)
        finally:
            self._close()

    def _work(self, guard: int) -> int:
        while not self._is_finished():
            self._step(self._wait_s())
            now = time.monotonic()
            if now >= self._look_at:
                self._look_at = now + self._interval_s()
                self._look(now)
                if is_orphaned(guard):
                    return ORPHANED
            closing = sum(stream.number for stream in self._streams if self._is_given_up(stream))
            if closing:
                return CLOSE | closing
            if self._over_at is not None and now >= self._over_at + LINGER_S:
                self._leave_to_others()
                break
        return DONE

    def _open(self, again: bool) -> None:
        for stream in self._streams:
            stream.open_outlet()
        self._recorder = recorder = _new_recorder(self._place, self._fields)
        self._log = ConsoleLog(recorder.write, recorder.time)
        if again:
            recorder.write(LOST, Lost(recorder.time(), 1, _KILLED).encode())

    def _close(self) -> None:
        """Record what is left; keep nothing open that the next worker opens for itself."""
        self._stop_recording()
        for stream in self._streams:
            stream.close_outlet()
        if self._asked:
            self._answer()

    def _stop_recording(self) -> None:
        log, recorder, self._log, self._recorder = self._log, self._recorder, None, None
        if log is not None and recorder is not None:
            log.end(time.monotonic())
            recorder.end(0)

    def _is_finished(self) -> bool:
        return not any(stream.open or stream.waiting for stream in self._streams)

    def _interval_s(self) -> float:
        terminal = any(stream.terminal and stream.open for stream in self._streams)
        return WINDOW_INTERVAL_S if terminal else LOOK_INTERVAL_S

    def _wait_s(self) -> float:
        """Return how long to wait for something to happen."""
        now = time.monotonic()
        times = [self._look_at]
        if self._asked:
            times.append(now + SETTLED_S)
        if self._over_at is not None:
            times.append(self._over_at + LINGER_S)
        if self._log is not None:
            tick = self._log.next_tick()
            if tick is not None:
                times.append(tick)
        return max(0.0, min(times) - now)

    def _step(self, wait_s: float) -> None:
        """Wait for something to happen, and see to it."""
        happened = self._poll(wait_s)
        now = time.monotonic()
        busy = False
        for stream in self._streams:
            if stream.waiting:
                busy = True
                self._show(stream)
            elif stream.source in happened:
                busy = self._read(stream, now) or busy
        if self._log is not None:
            self._log.tick(now)
        if self._control in happened:
            busy = True
            self._hear(now)
        if busy:
            self._quiet_since = now
        elif self._asked and now >= self._quiet_since + SETTLED_S:
            self._answer()

    def _poll(self, wait_s: float) -> "set[int]":
        poll = select.poll()
        for stream in self._streams:
            if stream.waiting and stream.outlet is not None:
                poll.register(stream.outlet.fd, select.POLLOUT)
            elif stream.open:
                poll.register(stream.source, select.POLLIN)
        if self._control >= 0:
            poll.register(self._control, select.POLLIN)
        # Rounded up: a wait of less than a millisecond would be none.
        return {fd for fd, _ in poll.poll(int(wait_s * 1000) + 1 if wait_s > 0 else 0)}

    def _read(self, stream: Stream, now: float) -> bool:
        """Take in what a program wrote; return whether there was anything."""
        data = stream.read()
        if data is None:
            return False
        # Copied before the memory is used again, and shown before it is recorded, for the eyes that wait.
        kept = bytes(data) if self._log is not None else b""
        self._show(stream)
        if self._log is not None:
            self._log.feed(stream.name, kept, now)
        return True

    def _show(self, stream: Stream) -> None:
        if not stream.show():
            try:
                os.write(self.notice, GIVEN_BACK[stream.number])
            except OSError:  # the program is gone
                pass

    def _hear(self, now: float) -> None:
        """Take in what the program asks."""
        try:
            asked = os.read(self._control, 64)
        except BlockingIOError:
            return
        except OSError:
            asked = b""
        if not asked:
            # The program is gone, or it closed what it did not know; its output goes on as long as it lives.
            os.close(self._control)
            self._control = -1
            self._look_at = now
        if FINISH in asked:
            self._finishing = True
            self._over_at = self._over_at or now
        self._asked = self._asked or FINISH in asked or DRAIN in asked
        for stream in self._streams:
            stream.given_back = stream.given_back or GIVEN_BACK[stream.number] in asked

    def _answer(self) -> None:
        """Say that all is shown that was asked for."""
        self._asked = False
        if self._finishing:  # what children write from now on is shown and not recorded
            self._stop_recording()
        if self._log is not None:
            self._log.flush()
        self._say(DRAIN)

    def _say(self, word: bytes) -> None:
        if self._control >= 0:
            try:
                os.write(self._control, word)
            except OSError:
                pass

    def _look(self, now: float) -> None:
        """See to what nothing tells of: the program's end, the terminal's size."""
        alive = started_at(self._pid) == self._started if self._started else _exists(self._pid)
        if not alive and self._over_at is None:
            self._over_at = now
        changed = [s for s in self._streams if s.terminal and s.open and s.window_changed()]
        if changed and alive:
            try:
                # The kernel's own signal came before the size was copied.
                os.kill(self._pid, signal.SIGWINCH)
            except OSError:
                pass

    def _is_given_up(self, stream: Stream) -> bool:
        """Return whether a stream must lose its reader, so that whoever still writes to it learns that."""
        # Not while the program has the reading side, too: it would write until the channel is full, and wait.
        gone = stream.given_back or self._over_at is not None or self._control < 0
        return stream.refused and stream.open and gone

    def _leave_to_others(self) -> None:
        """Have what others write after the program's end passed on, and not recorded, while they do."""
        self._stop_recording()
        if os.fork():
            for stream in self._streams:
                stream.forget()
            return
        os.setsid()
        os.close(self.notice)
        if self._control >= 0:
            os.close(self._control)
            self._control = -1
        while not self._is_finished():
            self._step(LOOK_INTERVAL_S)
            for stream in self._streams:
                if stream.refused:
                    stream.close_source()
        os._exit(0)


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return True


def _ignore_signals() -> None:
    for name in ("INT", "TERM", "HUP", "QUIT", "TSTP", "PIPE", "USR1", "USR2", "ALRM"):
        signal.signal(getattr(signal, "SIG" + name), signal.SIG_IGN)


def _new_recorder(place: RunPlace, fields: Dict[str, str]) -> Recorder:
    """Return what writes a stream of the run; it begins with the first record."""
    found: List[Recorder] = []

    def opening() -> Records:
        return [(RUN, Run(found[0].time(), fields).encode())]

    found.append(Recorder(place, opening, opening, opening, lambda reason: None))
    # The first record is made before the stream is there to say so.
    found[0].clock_offset = time_ns() - monotonic_ns()
    return found[0]
