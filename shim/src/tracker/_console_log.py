"""ConsoleLog: lines of stdout and stderr on their way into CONSOLE records.

Used by the process that reads a program's output (_tee.py), and in the training itself where only what Python
writes is recorded (_wrap.py). Whatever is left out is counted in a LOST record.
"""

from typing import Callable, Dict, List, Optional, Union

from ._console_lines import BYTES_PER_S, Budget, Lines
from .protocol.bodies import Console, Lost
from .protocol.kinds import CONSOLE, LOST

#: Lines wait so long for others, to be one record.
BATCH_S = 0.1
_BATCH_CHARACTERS_MAX = 64 * 1024
_BATCH_LINES_MAX = 1000
#: Lines that were left out are reported at most so often.
_REPORT_INTERVAL_S = 1.0
_TOO_MUCH = "lines of console output beyond %d bytes/s" % BYTES_PER_S

Write = Callable[[int, bytes], object]


class ConsoleLog:
    """Takes what was written, hands records to `write`. Not thread-safe."""

    def __init__(
        self,
        write: Write,
        time: Callable[[], int],
        batch_s: float = BATCH_S,
        budget: Optional[Budget] = None,
    ) -> None:
        """time: gives the time of records, in nanoseconds."""
        self._write = write
        self._time = time
        self._batch_s = batch_s
        self._budget = budget or Budget()
        self._streams: Dict[str, Lines] = {}
        self._waiting: List[str] = []
        self._waiting_stream = ""
        self._waiting_characters = 0
        self._waiting_since = 0.0
        self._dropped = 0
        self._reported_at = 0.0

    def feed(self, stream: str, data: bytes, now: float) -> None:
        """Take in bytes that were written to a stream. now: seconds of a clock that only goes forward."""
        lines = self._streams.setdefault(stream, Lines())
        if not self._budget.has_room(now):
            self._drop(lines.skip(data), now)
            return
        self._add(stream, lines.feed(data, now), now)

    def add_lines(self, stream: str, found: List[str], now: float) -> None:
        """Take in whole lines."""
        if self._budget.has_room(now):
            self._add(stream, found, now)
        else:
            self._drop(len(found), now)

    def tick(self, now: float) -> None:
        """Record what has waited long enough."""
        for stream, lines in self._streams.items():
            if lines.due_at is not None:
                self._add(stream, lines.due(now), now)
        if self._waiting and now >= self._waiting_since + self._batch_s:
            self._flush()

    def flush(self) -> None:
        """Record whole lines at once: whoever asks may end, and so may all of its job."""
        self._flush()

    def next_tick(self) -> Optional[float]:
        """Return when tick() has something to do; None where nothing waits."""
        times = [lines.due_at for lines in self._streams.values() if lines.due_at is not None]
        if self._waiting:
            times.append(self._waiting_since + self._batch_s)
        return min(times) if times else None

    def end(self, now: float) -> None:
        """Record what is left, lines without an end too."""
        for stream, lines in self._streams.items():
            self._add(stream, lines.flush(), now)
        self._flush()
        self._report(now)

    def _add(self, stream: str, found: List[str], now: float) -> None:
        if not found:
            return
        if self._dropped:
            self._flush()
            self._report(now)
        self._budget.spend(found)
        if stream != self._waiting_stream:  # so that records are in the order of what was read
            self._flush()
            self._waiting_stream = stream
        if not self._waiting:
            self._waiting_since = now
        for line in found:
            self._waiting.append(line)
            self._waiting_characters += len(line)
            if self._waiting_characters > _BATCH_CHARACTERS_MAX or len(self._waiting) >= _BATCH_LINES_MAX:
                self._flush()
                self._waiting_since = now
        if self._waiting and not self._batch_s:
            self._flush()

    def _flush(self) -> None:
        if self._waiting:
            lines, self._waiting = self._waiting, []
            self._waiting_characters = 0
            self._write(CONSOLE, Console(self._time(), self._waiting_stream, lines).encode())

    def _drop(self, count: int, now: float) -> None:
        if count:
            self._flush()
            self._dropped += count
            if now >= self._reported_at + _REPORT_INTERVAL_S:
                self._report(now)

    def _report(self, now: float) -> None:
        if self._dropped:
            dropped, self._dropped = self._dropped, 0
            self._reported_at = now
            self._write(LOST, Lost(self._time(), dropped, _TOO_MUCH).encode())


def encoded(text: Union[str, bytes]) -> bytes:
    """Return text as bytes to feed; lone surrogates of file names become what they stand for."""
    return text if isinstance(text, bytes) else text.encode("utf-8", "replace")
