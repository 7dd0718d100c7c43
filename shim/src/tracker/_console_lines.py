"""From bytes that a program writes to lines that are recorded; plain data in, plain data out.

Progress bars that overwrite themselves are folded, escape sequences taken out, long lines cut. Times are
seconds of any clock that only goes forward.
"""

import re
from typing import List, Optional

from ._console_screen import Screen, find_up

#: Of a longer line the beginning is kept, and how much is missing.
LINE_BYTES_MAX = 16 * 1024
#: A line that keeps overwriting itself is recorded as it stands, so often.
PROGRESS_INTERVAL_S = 10.0
#: A line without an end is recorded as it stands when nothing was added for so long.
PARTIAL_WAIT_S = 2.0
#: What may be recorded: at once, and then on and on.
BURST_BYTES = 16 * 1024 * 1024
BYTES_PER_S = 64 * 1024
#: Counted for each line on top of its text.
_LINE_COST_BYTES = 16
#: With less than this to spend, lines are counted and no longer looked at.
_RESUME_BYTES = 64 * 1024

_ESCAPES = re.compile(
    "\x1b(?:"
    r"\[[0-?]*[ -/]*[@-~]"  # colours, movements, erasing
    "|\\][^\x07\x1b]*(?:\x07|\x1b\\\\)?"  # titles, links
    "|[PX^_][^\x1b]*(?:\x1b\\\\)?"  # device strings
    r"|[ -/]*[0-~]"  # the short ones
    ")?"
)
_CONTROLS = dict.fromkeys(list(range(9)) + list(range(10, 32)) + list(range(127, 160)))


class Lines:
    """The lines of one stream. What is recorded is returned; the unfinished rest stays here."""

    def __init__(self) -> None:
        self._rest = b""
        self._cut = 0
        #: What of the unfinished line is recorded already, as long as it was not overwritten.
        self._recorded = b""
        self._overwritten = False
        #: The last lines, where the cursor moves up to draw over them.
        self._screen: Optional[Screen] = None
        #: When the unfinished line is due as it stands; None: there is nothing new in it.
        self.due_at: Optional[float] = None

    def feed(self, data: bytes, now: float) -> List[str]:
        """Take in what was written; return the lines that ended with it."""
        if self._screen is None:
            up = find_up(data)
            if up < 0:
                return self._feed(data, now)
            found = self._feed(data[:up], now)
            self._screen = Screen(self._rest, now, PROGRESS_INTERVAL_S, LINE_BYTES_MAX, to_text)
            self._forget()
            data = data[up:]
        else:
            found = []
        found += self._screen.feed(data, now)
        self.due_at = self._screen.due_at
        return found

    def _feed(self, data: bytes, now: float) -> List[str]:
        found: List[str] = []
        parts = data.split(b"\n")
        for part in parts[:-1]:
            if self._rest or self._recorded or self._cut or b"\r" in part or len(part) > LINE_BYTES_MAX:
                self._add(part)
                self._finish(found)
            else:
                found.append(to_text(part))
        if parts[-1]:
            self._add(parts[-1])
            self._plan(now)
        return found

    def due(self, now: float) -> List[str]:
        """Return the unfinished line if it is time to record it as it stands."""
        if self.due_at is None or now < self.due_at:
            return []
        if self._screen is None or self._screen.is_over(now):
            return self.flush()
        found = self._screen.due(now)
        self.due_at = self._screen.due_at
        return found

    def flush(self) -> List[str]:
        """Return the unfinished line as it stands, or what is new in it."""
        self.due_at = None
        if self._screen is not None:
            screen, self._screen = self._screen, None
            return screen.flush(0.0)
        found: List[str] = []
        text = self._news()
        if text:
            found.append(text)
        self._recorded = self._state()
        self._overwritten = False
        return found

    def skip(self, data: bytes) -> int:
        """Pass over what was written; return how many lines ended in it."""
        ended = data.count(b"\n")
        self._screen = None
        if ended:
            self._forget()
            data = data[data.rindex(b"\n") + 1 :]
        self._add(data)
        return ended

    def _add(self, part: bytes) -> None:
        """Add to the unfinished line: what stands behind its last carriage return."""
        whole = self._rest + part
        if b"\r" in whole:
            shown = whole.rstrip(b"\r")
            start = shown.rfind(b"\r") + 1
            if start:
                self._overwritten = True
                self._cut = 0
            # One at the end overwrites nothing until something follows.
            whole = shown[start:] + (b"\r" if len(shown) < len(whole) else b"")
        if len(whole) > LINE_BYTES_MAX:
            self._cut += len(whole) - LINE_BYTES_MAX
            whole = whole[:LINE_BYTES_MAX]
        self._rest = whole

    def _plan(self, now: float) -> None:
        if self._overwritten or self._rest.endswith(b"\r"):
            if self.due_at is None:
                self.due_at = now + PROGRESS_INTERVAL_S
        else:
            self.due_at = now + PARTIAL_WAIT_S

    def _state(self) -> bytes:
        return self._rest.rstrip(b"\r")

    def _news(self) -> Optional[str]:
        """Return what of the unfinished line is not recorded yet; None where that is nothing."""
        state = self._state()
        if self._recorded and state.startswith(self._recorded):
            if len(state) == len(self._recorded) and not self._cut:
                return None
            if not self._overwritten:
                state = state[len(self._recorded) :]
        if self._overwritten and not state.strip():
            return None  # a bar that cleared itself away
        text = to_text(state)
        return text if not self._cut else "%s… (%d more bytes)" % (text, self._cut)

    def _finish(self, found: List[str]) -> None:
        text = self._news()
        if text is not None:
            found.append(text)
        self._forget()

    def _forget(self) -> None:
        self._rest = self._recorded = b""
        self._cut = 0
        self._overwritten = False
        self.due_at = None


class Budget:
    """How much may be recorded: a bucket that fills at a steady rate."""

    def __init__(self, burst: int = BURST_BYTES, rate: int = BYTES_PER_S) -> None:
        self._burst = float(burst)
        self._rate = rate
        self._left = float(burst)
        self._at: Optional[float] = None
        self._spent = False

    def has_room(self, now: float) -> bool:
        """Return whether more may be recorded. Once used up, only when there is room for a while."""
        if self._at is not None:
            self._left = min(self._burst, self._left + (now - self._at) * self._rate)
        self._at = now
        if self._left <= 0:
            self._spent = True
        elif self._left >= min(_RESUME_BYTES, self._burst):
            self._spent = False
        return not self._spent

    def spend(self, lines: List[str]) -> None:
        """Count lines as recorded."""
        self._left -= sum(map(len, lines)) + _LINE_COST_BYTES * len(lines)


def to_text(line: bytes) -> str:
    """Return a line as people read it: without escape sequences and control characters."""
    text = line.decode("utf-8", "replace")
    if text.isprintable():
        return text
    if "\x1b" in text:
        text = _ESCAPES.sub("", text)
    if "\b" in text:
        text = _without_backspaces(text)
    return text.translate(_CONTROLS)


def _without_backspaces(text: str) -> str:
    kept: List[str] = []
    for character in text:
        if character != "\b":
            kept.append(character)
        elif kept:
            kept.pop()
    return "".join(kept)
