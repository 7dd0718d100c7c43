"""Screen: the last rows of a stream that moves its cursor up to draw over them, as bars of several lines do.

Not a terminal: text that comes to a row after a carriage return or a line feed replaces the whole row.
"""

import re
from typing import Callable, List

#: Rows above are out of reach: what they hold is recorded.
ROWS_MAX = 50
_UP = re.compile(rb"\x1b\[([0-9]{0,3})A")
_TOKENS = re.compile(
    rb"\x1b\[([0-9]{0,3})([AB])|(\x1b\[[0-2]?K)|(\r)|(\n)"
    rb"|\x1b\[[0-?]*[ -/]*[@-~]"  # colours and the like, which change no text
    rb"|([^\x1b\r\n]+|\x1b)"
)
#: The beginning of a sequence, whose rest comes with the next bytes.
_BEGUN = re.compile(rb"\x1b(\[[0-?]{0,16}[ -/]{0,4})?\Z")


def find_up(data: bytes) -> int:
    """Return where data first moves the cursor up, -1 where it does not."""
    if b"\x1b[" not in data:
        return -1
    found = _UP.search(data)
    return found.start() if found else -1


class Screen:
    """Rows by what they hold now, and what of them is recorded."""

    def __init__(
        self, row: bytes, now: float, interval_s: float, row_bytes_max: int, to_text: Callable[[bytes], str]
    ) -> None:
        """row: the line that was under way; those above it are recorded already."""
        self._rows: List[bytes] = [b""] * (ROWS_MAX - 1) + [row]
        self._recorded: List[str] = [""] * ROWS_MAX
        self._row = ROWS_MAX - 1
        self._replace = row.endswith(b"\r")
        self._begun = b""
        self._interval_s = interval_s
        self._row_bytes_max = row_bytes_max
        self._to_text = to_text
        self._moved_at = now
        #: When rows that changed are recorded as they stand.
        self.due_at = now + interval_s

    def feed(self, data: bytes, now: float) -> List[str]:
        """Draw; return what was recorded of rows that went out of reach."""
        found: List[str] = []
        data = self._begun + data
        begun = _BEGUN.search(data, max(0, len(data) - 24))
        self._begun = begun.group() if begun else b""
        data = data[: len(data) - len(self._begun)]
        for count, direction, erase, start, end, text in _TOKENS.findall(data):
            if text:
                row = text if self._replace else self._rows[self._row] + text
                self._rows[self._row] = row[: self._row_bytes_max]
                self._replace = False
            elif end:
                self._down(found)
            elif start:
                self._replace = True
            elif erase:
                self._rows[self._row] = b""
            elif direction == b"A":
                self._row = max(0, self._row - int(count or 1))
                self._moved_at = now
            elif direction == b"B":
                for _ in range(min(int(count or 1), ROWS_MAX)):
                    self._down(found)
        return found

    def _down(self, found: List[str]) -> None:
        self._replace = True
        self._row += 1
        if self._row == len(self._rows):
            self._record(0, found)
            del self._rows[0], self._recorded[0]
            self._row -= 1
            self._rows.append(b"")
            self._recorded.append("")

    def _record(self, row: int, found: List[str]) -> None:
        text = self._to_text(self._rows[row]).rstrip()
        if text and text != self._recorded[row]:
            found.append(text)
            self._recorded[row] = text

    def due(self, now: float) -> List[str]:
        """Return the rows that changed, if it is time for that."""
        return self.flush(now) if now >= self.due_at else []

    def flush(self, now: float) -> List[str]:
        """Return the rows that changed."""
        found: List[str] = []
        for row in range(len(self._rows)):
            self._record(row, found)
        self.due_at = now + self._interval_s
        return found

    def is_over(self, now: float) -> bool:
        """Return whether nothing was drawn over for a while."""
        return now >= self._moved_at + self._interval_s
