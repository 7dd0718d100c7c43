"""Mends what an exception from a signal handler leaves behind at the edge of a `with lock` block.

Before Python 3.10 one may come between the end of the block and the release of the lock, from 3.14 on between
taking the lock and the block: then nobody releases it, and other threads wait for ever.
"""

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Set, TypeVar

    _Function = TypeVar("_Function", bound=Callable[..., Any])

#: Another thread may be writing meanwhile, to a disk that hangs.
_WAIT_S = 1.0
_holders: "Set[Any]" = set()


def holder(function: "_Function") -> "_Function":
    """Note that a function calls others while it holds such a lock. It calls let_go() where it is left."""
    _holders.add(function.__code__)
    return function


def let_go(owner: "Any") -> None:
    """Release owner.lock and reset owner.busy, and so for owner.nested; unless a caller holds that, too.

    To be called with any exception on its way out, behind the `with` block.
    """
    frame = sys._getframe(1).f_back  # noqa: SLF001 - the caller of the function that was left
    while frame is not None:
        if frame.f_code in _holders:
            return  # the exception, if it is not caught before, gets there
        frame = frame.f_back
    while owner is not None:
        if owner.lock.acquire(timeout=_WAIT_S):
            owner.busy = False
            owner.lock._release_save()  # noqa: SLF001 - however often it was taken
        owner = getattr(owner, "nested", None)
