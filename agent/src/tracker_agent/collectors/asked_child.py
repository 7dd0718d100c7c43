"""A process that asks a driver for a collector, with a deadline on each answer.

One that does not answer is killed, and a new one is started only when the old one is gone, after a delay that
grows: a process stuck in a driver survives SIGKILL, and a second one would get stuck beside it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .collector import CollectorError, NothingHere
from .nvidia_process import Child

RESTART_FIRST_S = 1.0
RESTART_MAX_S = 45.0
#: How often a machine that has nothing is looked at again: it may get a driver without a reboot.
ABSENT_RECHECK_S = 300.0
#: The same where there was one since the agent started: it is being replaced.
RETURN_RECHECK_S = 30.0
#: How long a process that lets go of its driver is waited for; a slow driver takes its time.
RELEASE_WAIT_S = 5.0
#: Good answers in a row after which a restart is tried at once again.
HEALTHY_ANSWERS = 30


class AskedChild:
    """The process there is, or why there is none now. One thread asks, others may take it away."""

    def __init__(
        self,
        command: Sequence[str],
        deadline_s: float,
        first_deadline_s: float,
        monotonic: Callable[[], float],
    ) -> None:
        """first_deadline_s: for the first answer of each process, which opens the driver."""
        self._command = tuple(command)
        self._deadline_s = deadline_s
        self._first_deadline_s = first_deadline_s
        self._monotonic = monotonic
        #: Whoever holds it may start, ask and end the process.
        self._lock = threading.Lock()
        self._child: Child | None = None
        self._dying: Child | None = None
        self._start_at = monotonic()
        self._delay_s = RESTART_FIRST_S
        self._good = 0
        self._ever_good = False
        self._waiting: Exception | None = None

    def ask(self, question: Mapping[str, Any]) -> dict[str, Any]:
        """Return the answer to one question. Raise NothingHere or CollectorError."""
        with self._lock:
            return self._ask(question)

    def let_go(self) -> str:
        """End the process without blame: the next may start at once. Return what hinders, if anything."""
        if not self._lock.acquire(timeout=self._deadline_s + RELEASE_WAIT_S):
            return "the driver is being asked and does not answer"
        try:
            if self._child is not None:
                self._child.end(RELEASE_WAIT_S)
                self._dying = None if self._child.gone() else self._child
                self._child = None
            if self._dying is not None and not self._dying.gone():
                return "the driver hangs and does not let go of the process that asked it"
            return ""
        finally:
            self._lock.release()

    def _ask(self, question: Mapping[str, Any]) -> dict[str, Any]:
        child = self._child or self._start()
        deadline_s = self._deadline_s if child.answered else self._first_deadline_s
        try:
            answer = child.ask(question, deadline_s)
        except TimeoutError as error:
            raise self._lose(f"the driver did not answer within {deadline_s:g} s") from error
        except (OSError, ValueError) as error:
            raise self._lose(f"the process that asks the driver ended: {error}") from error
        if "absent" in answer:
            self._lose("")
            self._start_at = self._monotonic() + (RETURN_RECHECK_S if self._ever_good else ABSENT_RECHECK_S)
            self._waiting = NothingHere(answer["absent"])
            raise self._waiting
        if "fatal" in answer:
            raise self._lose(str(answer["fatal"]))
        self._good += 1
        self._ever_good = True
        if self._good >= HEALTHY_ANSWERS:
            self._delay_s = RESTART_FIRST_S
        return answer

    def close(self) -> None:
        """End the process."""
        with self._lock:
            for child in (self._child, self._dying):
                if child is not None:
                    child.end()
            self._child = self._dying = None

    def _start(self) -> Child:
        """Return a new process. Raise what is waited for while there must be none."""
        if self._dying is not None:
            if not self._dying.gone():
                raise CollectorError("the driver hangs and does not let go of the process that asked it")
            self._dying = None
        if self._waiting is not None and self._monotonic() < self._start_at:
            raise self._waiting
        try:
            self._child = Child(self._command)
        except OSError as error:
            raise self._lose(f"cannot start the process that asks the driver: {error}") from error
        self._waiting = None
        self._good = 0
        return self._child

    def _lose(self, reason: str) -> CollectorError:
        """Kill the process, and let none start until the delay, longer each time, is over."""
        if self._child is not None:
            self._child.kill()
            self._dying = None if self._child.gone() else self._child
            self._child = None
        self._start_at = self._monotonic() + self._delay_s
        self._delay_s = min(2 * self._delay_s, RESTART_MAX_S)
        self._waiting = CollectorError(reason)
        return self._waiting
