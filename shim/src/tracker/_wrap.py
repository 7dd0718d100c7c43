"""Records what Python code writes to sys.stdout and sys.stderr, where their descriptors say nothing.

The `write` of the two objects is wrapped: what it is given is recorded after it was written. There is no
thread and no other process: lines are recorded as they end, one without an end at the run's end.
"""

import os
import sys
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Callable, Deque, Dict, Tuple

from ._console_log import ConsoleLog, encoded
from .protocol.bodies import Lost
from .protocol.kinds import LOST

if TYPE_CHECKING:
    from ._run import Run

#: Written by other threads, or by what recording itself calls, and not recorded yet.
_QUEUE_MAX = 10000


class Wrap:
    """The wrapped streams of one run."""

    def __init__(self, run: "Run") -> None:
        """Wrap both streams, those that allow it."""
        self._run = run
        self._over = False
        self._undo: Dict[str, Callable[[], None]] = {}
        self._wrapped: Dict[str, Any] = {}
        self._start()
        self._wrap_both()
        # IPython wraps them, too, while a cell runs, and then puts back what was there before the cell.
        shell = _ipython()
        if shell is not None:
            shell.events.register("pre_run_cell", self._wrap_both)
            self._undo["cells"] = lambda: shell.events.unregister("pre_run_cell", self._wrap_both)

    def _start(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._queue: Deque[Tuple[str, Any]] = deque()
        self._lost = 0
        # Each write is a record: nobody comes by later to write it.
        self._log = ConsoleLog(self._record, self._time, batch_s=0.0)

    def _wrap_both(self, *cell: Any) -> None:  # noqa: ARG002 - what IPython hands over
        """Wrap what is not wrapped."""
        for name in ("stdout", "stderr"):
            stream = getattr(sys, name)
            try:
                if vars(stream).get("write", self) is not self._wrapped.get(name):
                    self._wrap(name, stream)
            except Exception as error:  # noqa: BLE001 - it may be anything, or None
                self._run.terminal.warn("console", "sys.%s cannot be recorded: %s" % (name, error))

    def _wrap(self, name: str, stream: Any) -> None:
        original = stream.write
        own = "write" in vars(stream)

        def write(text: Any, *more: Any) -> Any:
            result = original(text, *more)
            if self._wrapped.get(name) is write and not self._over:
                self._note(name, text)
            return result

        stream.write = write
        self._wrapped[name] = write

        def undo() -> None:
            if vars(stream).get("write") is not write:
                return  # somebody wrapped it once more: this one stays below, and does nothing
            if own:
                stream.write = original
            else:
                del stream.write

        self._undo[name] = undo

    def _note(self, name: str, text: Any) -> None:
        """Record what was written. Never waits: another thread, or a frame below this one, may be at it."""
        try:
            if os.getpid() != self._pid:
                self._start()  # a fork: what its parent holds is its parent's
            if len(self._queue) < _QUEUE_MAX:
                self._queue.append((name, text))
            else:
                self._lost += 1
            while self._queue and self._lock.acquire(False):
                try:
                    self._work_off()
                finally:
                    self._lock.release()
        except Exception:  # noqa: BLE001, S110 - nothing of this may reach a print()
            pass

    def _work_off(self) -> None:
        now = time.monotonic()
        while self._queue:
            name, text = self._queue.popleft()
            if isinstance(text, (str, bytes)):
                self._log.feed(name, encoded(text), now)
        self._log.tick(now)
        if self._lost:
            lost, self._lost = self._lost, 0
            self._record(LOST, Lost(self._time(), lost, "written to the console all at once").encode())

    def _record(self, kind: int, body: bytes) -> object:
        return self._run.record(kind, lambda recorder: body, "console")

    def _time(self) -> int:
        return self._run._recorder.time()  # noqa: SLF001 - one part of the run in two files

    def end(self, code: int) -> None:  # noqa: ARG002 - what at_end() hands over
        """Record what is left, and unwrap."""
        self._over = True
        for undo in self._undo.values():
            undo()
        if self._lock.acquire(False):
            try:
                self._work_off()
                self._log.end(time.monotonic())
            finally:
                self._lock.release()


def _ipython() -> Any:
    """Return the shell of a notebook or an IPython prompt, None elsewhere."""
    module = sys.modules.get("IPython")
    try:
        return None if module is None else module.get_ipython()
    except Exception:  # noqa: BLE001 - foreign code
        return None
