"""Learns the exit code of a process that ends by SystemExit, whoever raised it (docs/decisions/0017).

Nobody tells functions that run at exit. But CPython asks the exception for its `code` when nothing has
caught it, so here that attribute is a property which notes that it was asked for by no code of the program.
"""

import gc
import sys
from typing import Any, Callable

#: Of all that listened, since the interpreter's caches do not count as users of what they hold.
_kept = []  # type: ignore[var-annotated]


def listen(note: Callable[[Any], None]) -> Callable[[], None]:
    """Have note called with the code of the SystemExit that ends the interpreter; return what undoes this.

    Raise Exception where the interpreter is not CPython, or one that has changed.
    """
    original = SystemExit.__dict__["code"]
    (names,) = [each for each in gc.get_referents(SystemExit.__dict__) if type(each) is dict]

    def get_code(error: SystemExit) -> Any:
        """The exit code."""
        code = original.__get__(error)
        if sys._getframe().f_back is None:  # noqa: SLF001 - no frame of the program is left
            try:
                note(code)
            except Exception:  # noqa: BLE001, S110 - the process is to end as it would
                pass
        return code

    ours = property(get_code, original.__set__, original.__delete__)

    def undo() -> None:
        if names.get("code") is ours:
            names["code"] = original
            _forget_lookups()

    _kept.append((original, ours))
    names["code"] = ours
    _forget_lookups()
    return undo


def _forget_lookups() -> None:
    """Have the interpreter look up attributes of types anew, which it remembers."""
    (getattr(sys, "_clear_internal_caches", None) or sys._clear_type_cache)()  # noqa: SLF001
