"""What the user gets to see: single lines on stderr, warnings once per call site.

Nothing here raises: stderr may be closed, full or replaced by anything.
"""

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:  # `typing` would cost `import tracker` 5 ms
    from typing import Set, Tuple

#: So many call sites are warned about; a program that makes up code as it goes cannot fill memory.
WARNED_SITES_MAX = 1000


class Terminal:
    """Writes to whatever sys.stderr is at the moment, or nowhere when silent."""

    def __init__(self, silent: bool = False) -> None:
        self.silent = silent
        self._warned: Set[Tuple[str, str]] = set()

    def say(self, text: str) -> None:
        """Write one line."""
        if self.silent:
            return
        try:
            # One write, so that lines of several ranks do not mix.
            sys.stderr.write("tracker: " + text + "\n")
            sys.stderr.flush()
        except Exception:  # noqa: BLE001, S110 - no stderr is no reason to disturb a training
            pass

    def warn(self, topic: str, text: str) -> None:
        """Warn, naming the line of the user's code that led here; once for each line and topic."""
        site = call_site()
        key = (site, topic)
        if key in self._warned or len(self._warned) >= WARNED_SITES_MAX:
            return
        self._warned.add(key)
        self.say("warning: %s (%s)" % (text, site))


def call_site() -> str:
    """Return "file:line" of the nearest caller outside this package."""
    frame = sys._getframe()  # noqa: SLF001 - inspect costs 20 ms to import
    while frame is not None:
        name = frame.f_globals.get("__name__", "")
        if name != "tracker" and not (type(name) is str and name.startswith("tracker.")):
            return "%s:%d" % (frame.f_code.co_filename, frame.f_lineno)
        back = frame.f_back
        if back is None:
            break
        frame = back
    return "at exit"
