"""Recorder: one process's own stream of a run, and the account of what the disk refused.

Every process of a run (a fork, a rank) has a stream of its own, and so has a signal handler that
interrupts a write: no two writers ever share one. A record is in the kernel when write() returns True.
"""

import errno
import os
import threading

from ._clock import monotonic_ns
from ._interrupted import holder, let_go
from ._spool import RunPlace
from .protocol.bodies import Exit, Lost
from .protocol.header import AGAIN
from .protocol.kinds import CONFIG, EXIT, LOST, RUN, SUMMARY
from .protocol.writer import StreamWriter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, List, Optional, Tuple

    Records = List[Tuple[int, bytes]]
    Append = Callable[[int, bytes], None]
else:
    Records, Append = list, object


#: A stream that could not be created is tried again after so long, at the next record.
REOPEN_INTERVAL_NS = 10 * 10**9
#: Records that describe the run: written anew, whole, after the disk has refused one of them.
_STATE_KINDS = frozenset((RUN, CONFIG, SUMMARY))
#: Errors that say nothing about the next attempt.
_PASSING = frozenset((errno.EBADF, errno.EFBIG))


class Recorder:
    """Appends records to the stream of the process that made it. Thread-safe and re-entrant."""

    def __init__(
        self,
        place: RunPlace,
        opening: "Callable[[], Records]",
        joining: "Callable[[], Records]",
        state: "Callable[[], Records]",
        on_loss: "Callable[[str], None]",
        clock: "Callable[[], int]" = monotonic_ns,
    ) -> None:
        """opening: what the stream starts with; joining: what a second one beside it starts with;
        state: the run's description, whole.
        """
        self.place = place
        #: The process that writes here; 0 once ended.
        self.pid = os.getpid()
        self.lock = threading.RLock()
        #: Appends one record or raises OSError; to be called with lock held and busy set.
        self.append: Append = self._append_with_care
        #: A record is being written. With lock held, this means: by a frame that we interrupted.
        self.busy = False
        self.lost = 0
        self.clock_offset = 0
        self._writer: Optional[StreamWriter] = None
        self._due: Optional[Callable[[], Records]] = opening
        self._opening = opening
        self._joining = joining
        self._state = state
        self._on_loss = on_loss
        self._clock = clock
        #: The user knows that records are being lost.
        self.warned = False
        self._unreported = 0
        self._reason = ""
        self._refusal: Optional[OSError] = None
        self._refused_at = 0
        #: Writes for a signal handler that interrupts a write.
        self.nested: Optional["Recorder"] = None
        self._closed_under_us = False
        self._exited = False

    @holder
    def open(self) -> None:
        """Create the stream and write what it starts with. Raise OSError where that fails."""
        try:
            with self.lock:
                self._open()
                self._catch_up()
        except BaseException:
            let_go(self)
            raise

    def time(self) -> int:
        """Return the time for a record: the wall clock at the stream's start plus monotonic time."""
        return self.clock_offset + monotonic_ns()

    @holder
    def write(self, kind: int, body: bytes) -> bool:
        """Append one record. Return False, and count it, when that is not possible."""
        try:
            with self.lock:
                if self.busy:
                    return self._nested_recorder().write(kind, body)
                try:
                    self.busy = True
                    self._look_for_files()
                    self.append(kind, body)
                    return True
                except (OSError, ValueError) as error:
                    self.lose(kind, error)
                    return False
                finally:
                    self.busy = False
        except BaseException:
            let_go(self)
            raise

    def lose(self, kind: int, error: Exception) -> None:
        """Count one record as lost, to be reported in the stream as soon as it can be written."""
        self.lost += 1
        if not self.pid:
            return
        self._unreported += 1
        if isinstance(error, OSError):
            self._reason = error.strerror or str(error)
            self._learn_from(error)
        else:
            self._reason = str(error)
        if kind in _STATE_KINDS and self._due is None:
            self._due = self._state
        self.append = self._append_with_care
        self._warn()

    @holder
    def end(
        self,
        code: int,
        exception: "Optional[Dict[str, str]]" = None,
        facts: "Optional[Dict[str, Any]]" = None,
    ) -> None:
        """Write EXIT and close. May be called twice, and while a record is being written."""
        try:
            with self.lock:
                self._end(code, exception, facts)
        except BaseException:
            let_go(self)
            raise

    def forget(self) -> None:
        """Let go of descriptors that came with a fork, without a trace in the parent's stream."""
        writer, self._writer = self._writer, None
        if writer is not None:
            try:
                writer.forget()
            except OSError:
                pass  # the parent had closed them itself
        if self.nested is not None:
            self.nested.forget()

    def _end(
        self, code: int, exception: "Optional[Dict[str, str]]", facts: "Optional[Dict[str, Any]]"
    ) -> None:
        if not self.pid:
            return
        if self.nested is not None:
            self.nested.end(code)
        if not self.busy:
            self._look_for_files()
        if self._unreported and not self.busy:
            # A stream that could not be created has one more chance: else nobody hears of the loss.
            self._refusal = None
        if self._writer is not None or (self._unreported and not self.busy):
            self._write_exit(code, exception, facts)
            if not self.busy:
                self._close()
        self.pid = 0
        self.append = self._refuse

    def _learn_from(self, error: OSError) -> None:
        """Do what may let the next record be written."""
        if error.errno == errno.EBADF:
            # Somebody closed all descriptors. The number may be in use again: do not close it.
            self._writer = None
            self._go_on_elsewhere()
        elif error.errno == errno.EFBIG and self._writer is not None:
            self._writer.heed_limit()
        elif error.errno in (errno.ENOENT, getattr(errno, "ESTALE", errno.ENOENT)):
            self._look_for_files()

    def _go_on_elsewhere(self) -> None:
        self._due = self._opening
        self._closed_under_us = True
        self.append = self._append_with_care

    def _look_for_files(self) -> None:
        """Go on in a new stream where somebody deleted the files of this one."""
        writer = self._writer
        if writer is None or not writer.deleted():
            return
        # The agent may have read them before, but nobody here knows.
        records = writer.count_records()
        self.lost += records
        self._unreported += records
        self._reason = "the files of the run were deleted while it ran"
        self._close()
        self.place = self.place._replace(directory="")
        self._go_on_elsewhere()
        self._warn()

    def _write_exit(
        self, code: int, exception: "Optional[Dict[str, str]]", facts: "Optional[Dict[str, Any]]"
    ) -> None:
        if self._exited:  # an interrupt came between that and the end
            return
        try:
            body = Exit(self.time(), code, exception, facts).encode()
            self._exited = True
            try:
                self.append(EXIT, body)
            except OSError as error:
                if error.errno not in _PASSING:
                    raise
                self._learn_from(error)
                self._append_with_care(EXIT, body)
        except (OSError, ValueError):
            # Without EXIT the agent will find the stream's writer gone: visible, and true.
            self.lost += 1

    def _close(self) -> None:
        writer, self._writer = self._writer, None
        if writer is None:
            return
        try:
            writer.close()
        except OSError as error:
            if error.errno != errno.EBADF:
                # What NFS accepted earlier and could not keep. Nobody knows how much that is.
                self.lost += 1
                self._reason = error.strerror or str(error)
                self._warn()

    def _warn(self) -> None:
        if not self.warned:
            self.warned = True
            self._on_loss(self._reason)

    def _append_with_care(self, kind: int, body: bytes) -> None:
        if self._writer is None:
            self._open()
        self._catch_up()
        assert self._writer is not None
        self._writer.write(kind, body)
        self.append = self._writer.write

    def _open(self) -> None:
        now = self._clock()
        if self._refusal is not None and now - self._refused_at < REOPEN_INTERVAL_NS:
            raise OSError(self._refusal.errno, self._refusal.strerror)
        try:
            if not self.place.directory:
                self.place = self.place.made()
            place = self.place._replace(role=AGAIN) if self._closed_under_us else self.place
            header = place.new_header()
            writer = StreamWriter(place.directory, header)
        except OSError as error:
            self._refusal = error
            self._refused_at = now
            raise
        # One step, so that an interrupt finds all of it or nothing. Whoever gets this place from here, a fork
        # or a process the run is handed to, belongs to this stream.
        self.__dict__.update(
            _writer=writer,
            _refusal=None,
            _closed_under_us=False,
            place=self.place._replace(parent=header.stream),
            clock_offset=header.started - header.clock,
        )

    def _catch_up(self) -> None:
        """Write what is due before the next record. Done again from its start where it fails midway."""
        assert self._writer is not None
        if self._due is not None:
            for kind, body in self._due():
                self._writer.write(kind, body)
            self._due = None
        if self._unreported:
            self._writer.write(LOST, Lost(self.time(), self._unreported, self._reason).encode())
            self._unreported = 0

    def _refuse(self, kind: int, body: bytes) -> None:  # noqa: ARG002 - an Append
        raise OSError(errno.EBADF, "the run has ended")

    def _nested_recorder(self) -> "Recorder":
        # In a signal handler that interrupted a write by its own thread. Waiting would be for ever,
        # and whatever the interrupted frame has half done must not be touched.
        if self.nested is None:
            self.nested = Recorder(
                self.place, self._joining, self._joining, self._state, self._on_loss, self._clock
            )
        return self.nested
