"""Two processes that look after each other: one works, the other starts it anew when it is killed.

The worker is a child of its guard. When the guard is killed, the worker becomes the guard of a new worker.
Only both killed at the same moment end the work before it is done.
"""

import os
import time
from typing import Callable

#: What a worker returns that found its guard gone.
ORPHANED = 200
#: Killed more often, it is not started again: something is wrong that no new process will mend.
RESTARTS_MAX = 100
_PAUSE_S = 0.005
_PAUSE_S_MAX = 1.0

#: Given the guard's pid, and whether this goes on where another worker was killed. Returns 0 to 199.
Worker = Callable[[int, bool], int]


def keep_working(worker: Worker, goes_on: Callable[[int], bool]) -> None:
    """Have worker run in a child, and in another one when that is killed.

    goes_on: called by the guard with what a worker returned; True: there is to be another one.
    Forks: to be called where no other thread runs. Returns in the process that called it, and only there.
    """
    first = os.getpid()
    again = False
    restarts = 0
    while True:
        guard = os.getpid()
        child = os.fork()
        if not child:
            status = _work(worker, guard, again)
            if status != ORPHANED:
                os._exit(status)
            again = False  # this one did its work to the end, and is the guard from here on
            continue
        status = _wait(child)
        again = status < 0
        if again:
            restarts += 1
            time.sleep(min(_PAUSE_S * restarts, _PAUSE_S_MAX))
        if (again and restarts <= RESTARTS_MAX) or (not again and goes_on(status)):
            continue
        if os.getpid() != first:
            os._exit(0)
        return


def is_orphaned(guard: int) -> bool:
    """Return whether a worker's guard is gone."""
    return os.getppid() != guard


def _work(worker: Worker, guard: int, again: bool) -> int:
    try:
        return worker(guard, again)
    except BaseException:  # noqa: BLE001 - a process of its own, with nobody to tell
        return 1


def _wait(child: int) -> int:
    """Return the exit status of a child, -1 when a signal ended it."""
    try:
        _, status = os.waitpid(child, 0)
    except ChildProcessError:  # somebody else waited for it
        return 1
    return os.WEXITSTATUS(status) if os.WIFEXITED(status) else -1
