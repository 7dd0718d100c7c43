"""What the collectors brought, written down: windows as SAMPLE, the inventory as HOST, events as ALERT."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from structlog.typing import FilteringBoundLogger

from tracker.protocol import kinds
from tracker.protocol.bodies import Host, Sample

from .alerts import Alerts
from .collectors.collector import Event
from .streams import StreamKey
from .windows import RunWindow, RunWindows, WindowBuilder

#: Events that are kept for whoever asks.
EVENTS_KEPT = 64

Write = Callable[[int, bytes], None]


class RunStream(NamedTuple):
    """Where windows about one writer of a run go: its uid and stream as the server knows them, and how."""

    about: tuple[int, bytes]
    write: Write


class HostRecords:
    """Gathers samples into windows and writes them. Times are monotonic, in seconds, unless they end in _ns.

    write, run_stream: where records about the machine and about single writers of runs go; run_stream
    returns None for those that go nowhere. A record the disk refuses is lost, counted and said.
    """

    def __init__(
        self,
        inventory: Mapping[str, Any],
        write: Write,
        run_stream: Callable[[StreamKey], RunStream | None],
        log: FilteringBoundLogger,
        now: float,
    ) -> None:
        self._inventory = inventory
        self._write = write
        self._run_stream = run_stream
        self._log = log
        self._windows = WindowBuilder()
        self._run_windows = RunWindows()
        self._alerts = Alerts()
        self._sent_inventory: dict[str, Any] | None = None
        self.window_began = now
        self.recent_events: deque[Event] = deque(maxlen=EVENTS_KEPT)
        self._windows_written = 0
        self._runs_unshipped = 0
        self._records_lost = 0

    def status(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "windows": self._windows_written,
            "records_lost": self._records_lost,
            "runs_unshipped": self._runs_unshipped,
            "alerts": self._alerts.status(),
        }

    def add(self, values: Mapping[str, float]) -> None:
        """Add one sample of the machine to the open window."""
        self._windows.add(values)

    def add_runs(self, runs: Mapping[StreamKey, Mapping[str, float]], since: float) -> None:
        """Add one sample of some writers of runs. since: the time it is about, where it is their first."""
        for key, values in runs.items():
            self._run_windows.add(key, values, max(self.window_began, since))

    def tell(self, events: Iterable[Event], now: float) -> None:
        """Write down what happened, at once."""
        for event in events:
            self.recent_events.append(event)
            alert = self._alerts.admit(event, now)
            if alert is not None:
                self._log.warning("event", title=event.title, text=event.text, level_of_event=event.level)
                self._try_write(self._write, kinds.ALERT, alert.encode())

    def begin_anew(self, now: float) -> None:
        """Let the open windows begin now, and forget what they hold."""
        self._windows, self._run_windows = WindowBuilder(), RunWindows()
        self.window_began = now

    def begin_later(self, now: float) -> None:
        """Let the open windows, which hold nothing yet, begin only now."""
        self.window_began = now
        self._run_windows.begin(now)

    def flush(self, now: float, time_ns: int, facts: Sequence[Mapping[str, Any]]) -> None:
        """Write what is open as windows that end now, which is time_ns by the wall clock.

        facts: what the collectors know of the machine, for the inventory.
        """
        began, self.window_began = self.window_began, now
        self._send_inventory(time_ns, facts)
        windows = self._windows.take()
        if windows:
            sample = Sample(time_ns, _length_ns(began, now), windows)
            if self._try_write(self._write, kinds.SAMPLE, sample.encode()):
                self._windows_written += 1
        self._write_runs(self._run_windows.take(now), now, time_ns)

    def flush_new_runs(self, now: float, time_ns: int) -> None:
        """Write the first window of those writers of runs that had none yet."""
        self._write_runs(self._run_windows.take_first(now), now, time_ns)

    def _write_runs(self, windows: Sequence[RunWindow], now: float, time_ns: int) -> None:
        for window in windows:
            stream = self._run_stream(window.key)
            if stream is None:
                self._runs_unshipped += 1
                continue
            sample = Sample(time_ns, _length_ns(window.began, now), window.values, stream.about)
            self._try_write(stream.write, kinds.SAMPLE, sample.encode())

    def _send_inventory(self, time_ns: int, facts: Sequence[Mapping[str, Any]]) -> None:
        inventory = dict(self._inventory)
        for each in facts:
            for name, value in each.items():
                before = inventory.get(name)
                # Several collectors may know devices of one kind, such as GPUs of two makers.
                joined = isinstance(value, list) and isinstance(before, list)
                inventory[name] = [*before, *value] if joined and before is not None else value
        if inventory == self._sent_inventory:
            return
        if self._try_write(self._write, kinds.HOST, Host(time_ns, inventory).encode()):
            self._sent_inventory = inventory

    def _try_write(self, write: Write, kind: int, body: bytes) -> bool:
        try:
            write(kind, body)
        except OSError as error:
            if not self._records_lost:
                self._log.error("cannot write host metrics", reason=str(error))
            self._records_lost += 1
            return False
        return True


def _length_ns(began: float, ended: float) -> int:
    """Return the length of a window, at least 1 ns."""
    return max(1, round((ended - began) * 1e9))
