"""Keeps forks and first imports apart.

A process that forks while another thread imports a module leaves its child with that module's lock taken,
by a thread that the child does not have: there, whoever wants the module waits for ever. So what a training's
threads load late is loaded with `lock` held, and a fork waits for it.
"""

import os
from _thread import RLock

TYPE_CHECKING = False
if TYPE_CHECKING:  # `typing` would cost `import tracker` 5 ms
    from typing import Any

#: Nobody waits longer: an import, too, may wait for what the forking thread holds.
WAIT_S = 10.0


class Lock:
    """To be held by who loads a module of ours, or one that we need. Re-entrant; waits for WAIT_S at most."""

    def __init__(self) -> None:
        self._lock = RLock()
        self._stuck = False
        if hasattr(os, "register_at_fork"):  # Python 3.6 has none
            os.register_at_fork(
                before=self._before_fork, after_in_parent=self.__exit__, after_in_child=self._after_in_child
            )

    def __enter__(self) -> None:
        if self._stuck:
            raise ImportError("this process was forked while another thread was loading modules")
        self._lock.acquire(timeout=WAIT_S)

    def __exit__(self, *error: object) -> None:
        if self._lock._is_owned():  # type: ignore[attr-defined]  # noqa: SLF001 - else the wait was too long
            self._lock.release()

    def _before_fork(self) -> None:
        if not self._stuck:
            self._lock.acquire(timeout=WAIT_S)

    def _after_in_child(self) -> None:
        self._stuck = not self._lock._is_owned()  # type: ignore[attr-defined]  # noqa: SLF001
        self.__exit__()


lock = Lock()


def load(module: str) -> "Any":
    """Return tracker.<module>, loaded now if it must be."""
    with lock:
        return __import__("tracker." + module, fromlist=[module])  # importlib would cost 1 ms
