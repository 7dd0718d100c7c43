"""A run that may be asked to stop from elsewhere: a file named `stop` appears in its directory.

Loaded only for runs that allow it. Every other run's log() knows nothing of this; here it looks for the file
at most once a second, and ends the training as Ctrl-C would.
"""

import json
import os
import signal
import stat
import threading
from typing import Any, Dict, Optional, Tuple

from ._clock import monotonic_ns
from ._ending import RECURSION_MUST_SHOW
from ._run import Run
from .protocol.layout import STOP_FILE

LOOK_INTERVAL_NS = 10**9
_NEVER = 2**63
_CONTENT_BYTES_MAX = 4096
_TEXT_CHARACTERS_MAX = 128

#: Which file it is: one that was there before is none of this process's business.
Mark = Optional[Tuple[int, int]]


class StoppableRun(Run):
    """A Run whose log() raises KeyboardInterrupt, once, when somebody asked for that."""

    _look_at = 0
    _seen: Mark = None
    _has_looked = False

    def open(self) -> None:
        """Create this process's stream."""
        super().open()
        self._look_first()

    def log(
        self,
        data: Dict[str, Any],
        step: Optional[int] = None,
        commit: Optional[bool] = None,
        sync: Optional[bool] = None,  # noqa: ARG002 - known from old scripts, without effect
    ) -> None:
        """Record values at a step: see Run.log."""
        try:
            Run.log(self, data, step, commit)
        except RecursionError:
            if RECURSION_MUST_SHOW:
                raise
            self._recorder.lost += 1  # no stack left for the call itself
            return
        # After the record is written. The clock is no system call.
        now = monotonic_ns()
        if now >= self._look_at and self._is_asked(now):
            self._interrupt()

    def _is_asked(self, now: int) -> bool:
        try:
            self._look_at = now + LOOK_INTERVAL_NS
            if self._finished or self._place.stop_pid != os.getpid():
                self._look_at = _NEVER  # a fork is not what was asked to stop; its parent is
                return False
            if not self._has_looked:
                self._look_first()
                return False
            mark = self._mark()
            if mark is None or mark == self._seen:
                return False
            self._look_at = _NEVER
            self._end_facts = self._read()
            self._terminal.say("stopping: %s asked this run to stop" % (self._end_facts["stopped_by"]))
        except Exception as error:  # noqa: BLE001 - the guard
            self._guard("stop", error)
            return False
        return True

    def _look_first(self) -> None:
        """Take note of a file that is there already, where there is a directory yet."""
        if self._recorder.place.directory:
            self._seen = self._mark()
            self._has_looked = True

    def _mark(self) -> Mark:
        try:
            found = os.lstat(os.path.join(self.directory, STOP_FILE))
        except OSError:
            return None
        return (found.st_ino, found.st_mtime_ns) if stat.S_ISREG(found.st_mode) else None

    def _read(self) -> Dict[str, Any]:
        """Return what the EXIT will tell. A file without contents is a request, too."""
        facts: Dict[str, Any] = {"stopped_by": "a file named stop"}
        try:
            with open(os.path.join(self.directory, STOP_FILE), "rb") as file:
                fields = json.loads(file.read(_CONTENT_BYTES_MAX).decode("utf-8"))
            facts["stopped_by"] = str(fields["by"])[:_TEXT_CHARACTERS_MAX]
            facts["request"] = int(fields["request"])
        except Exception:  # noqa: BLE001, S110 - whatever it holds, that it is there counts
            pass
        return facts

    def _interrupt(self) -> None:
        handler = signal.getsignal(signal.SIGINT)
        main = threading.main_thread()
        if threading.current_thread() is not main:
            if callable(handler) and hasattr(signal, "pthread_kill") and main.ident is not None:
                signal.pthread_kill(main.ident, signal.SIGINT)  # wakes it where it waits
            else:
                _raise_in(main)
        elif callable(handler) and handler is not signal.default_int_handler and os.name != "nt":
            os.kill(os.getpid(), signal.SIGINT)  # the script has a way of its own to end
        else:
            # Also where SIGINT is ignored, as in a shell's background jobs.
            raise KeyboardInterrupt("stopped by %s" % (self._end_facts or {}).get("stopped_by"))


def _raise_in(thread: threading.Thread) -> None:
    import ctypes

    if thread.ident is not None:
        ctypes.pythonapi.PyThreadState_SetAsyncExc(
            ctypes.c_ulong(thread.ident), ctypes.py_object(KeyboardInterrupt)
        )
