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
#: Short enough that values are back within a minute.
RESTART_MAX_S = 45.0
#: How often a machine that has nothing is looked at again: it may get a driver without a reboot.
ABSENT_RECHECK_S = 300.0
#: The same where there was one since the agent started: it is being replaced.
RETURN_RECHECK_S = 30.0
#: How long a process that lets go of its driver is waited for; a slow driver takes its time.
RELEASE_WAIT_S = 5.0
#: Good answers in a row after which a restart is tried at once again.
HEALTHY_ANSWERS = 30
HANGS = "the driver hangs and does not let go of the process that asked it"


class ChildKeeper:
    """The process there is, or why there is none now. For one thread at a time: see AskedChild."""

    def __init__(
        self,
        command: Sequence[str],
        deadline_s: float,
        first_deadline_s: float,
        monotonic: Callable[[], float],
    ) -> None:
        """first_deadline_s: for the first answer of each process, which opens the driver."""
        self.child: Child | None = None
        #: Whether there were devices here: a driver that is absent is being replaced, then.
        self.had_devices = False
        self._command = tuple(command)
        self._deadline_s = deadline_s
        self._first_deadline_s = first_deadline_s
        self._monotonic = monotonic
        self._dying: Child | None = None
        self._start_at = monotonic()
        self._delay_s = RESTART_FIRST_S
        self._good = 0
        self._waiting: Exception | None = None

    def start(self) -> Child:
        """Return the process, maybe a new one. Raise what is waited for while there must be none."""
        if self.child is not None:
            return self.child
        if self._dying is not None:
            if not self._dying.gone():
                raise CollectorError(HANGS)
            self._dying = None
        if self._waiting is not None and self._monotonic() < self._start_at:
            raise self._waiting
        try:
            self.child = Child(self._command)
        except OSError as error:
            raise self._lose(f"cannot start the process that asks the driver: {error}") from error
        self._waiting = None
        self._good = 0
        return self.child

    def ask(self, child: Child, question: Mapping[str, Any]) -> dict[str, Any]:
        """Return a good answer. Raise NothingHere or CollectorError, with the process lost."""
        deadline_s = self._deadline_s if child.answered else self._first_deadline_s
        try:
            answer = child.ask(question, deadline_s)
        except TimeoutError as error:
            raise self._lose(f"the driver did not answer within {deadline_s:g} s") from error
        except (OSError, ValueError) as error:
            raise self._lose(f"the process that asks the driver ended: {error}") from error
        if "absent" in answer:
            self._lose("")
            self._start_at = self._monotonic() + (RETURN_RECHECK_S if self.had_devices else ABSENT_RECHECK_S)
            self._waiting = NothingHere(answer["absent"])
            raise self._waiting
        if "fatal" in answer:
            raise self._lose(str(answer["fatal"]))
        self._good += 1
        if self._good >= HEALTHY_ANSWERS:
            self._delay_s = RESTART_FIRST_S
        return answer

    def let_go(self) -> str:
        """End the process without blame: the next may start at once. Return what hinders, if anything."""
        if self.child is not None:
            self.child.end(RELEASE_WAIT_S)
            self._bury()
        return HANGS if self._dying is not None and not self._dying.gone() else ""

    def forgive(self) -> None:
        """Let the next process start at once, whatever ailed those before."""
        self._dying = self._waiting = None
        self._delay_s = RESTART_FIRST_S

    def close(self) -> None:
        """End the process."""
        for child in (self.child, self._dying):
            if child is not None:
                child.end()
        self.child = self._dying = None

    def _lose(self, reason: str) -> CollectorError:
        """Kill the process, and let none start until the delay, longer each time, is over."""
        if self.child is not None:
            self.child.kill()
            self._bury()
        self._start_at = self._monotonic() + self._delay_s
        self._delay_s = min(2 * self._delay_s, RESTART_MAX_S)
        error = CollectorError(reason)
        self._waiting = error
        return error

    def _bury(self) -> None:
        assert self.child is not None
        self._dying = None if self.child.gone() else self.child
        self.child = None


class AskedChild:
    """A process that one thread asks and others may take away."""

    def __init__(
        self,
        command: Sequence[str],
        deadline_s: float,
        first_deadline_s: float,
        monotonic: Callable[[], float],
    ) -> None:
        self._keeper = ChildKeeper(command, deadline_s, first_deadline_s, monotonic)
        self._release_wait_s = deadline_s + RELEASE_WAIT_S
        self._lock = threading.Lock()

    def ask(self, question: Mapping[str, Any]) -> dict[str, Any]:
        """Return the answer to one question. Raise NothingHere or CollectorError."""
        with self._lock:
            answer = self._keeper.ask(self._keeper.start(), question)
            self._keeper.had_devices = True
            return answer

    def let_go(self) -> str:
        """End the process without blame: the next may start at once. Return what hinders, if anything."""
        if not self._lock.acquire(timeout=self._release_wait_s):
            return "the driver is being asked and does not answer"
        try:
            return self._keeper.let_go()
        finally:
            self._lock.release()

    def close(self) -> None:
        """End the process."""
        with self._lock:
            self._keeper.close()
