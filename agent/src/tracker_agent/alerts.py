"""Which of the collectors' events become ALERT records: no repetitions, and not more than people can read."""

from __future__ import annotations

from collections import deque

from tracker.protocol.bodies import Alert

from .collectors.collector import Event

#: The same event again within this time is counted, not told.
REPEAT_S = 60.0
#: Alerts within a minute; a storm of different ones is counted beyond that.
ALERTS_PER_MINUTE = 100
_MINUTE_S = 60.0


class Alerts:
    """Remembers what was told within the last minute."""

    def __init__(self, per_minute: int = ALERTS_PER_MINUTE) -> None:
        self._per_minute = per_minute
        self._told: deque[float] = deque()
        self._recent: dict[tuple[str, str, str], float] = {}  # by title, text and level, since when
        self._repeated: dict[tuple[str, str, str], int] = {}
        self.written = 0
        self.repeated = 0
        self.left_out = 0

    def admit(self, event: Event, now: float) -> Alert | None:
        """Return the record of an event, or None where it is only counted.

        `repeated` among the facts says how often it happened since it was last told.
        """
        self._forget(now)
        key = (event.title, event.text, event.level)
        if key in self._recent:
            self.repeated += 1
            self._repeated[key] = self._repeated.get(key, 0) + 1
            return None
        if len(self._told) >= self._per_minute:
            self.left_out += 1
            return None
        self._told.append(now)
        self._recent[key] = now
        self.written += 1
        facts = dict(event.facts)
        repeated = self._repeated.pop(key, 0)
        if repeated:
            facts["repeated"] = repeated
        return Alert(event.time, event.title, event.text, event.level, facts or None)

    def status(self) -> dict[str, int]:
        """Return plain JSON values."""
        return {"written": self.written, "repeated": self.repeated, "left_out": self.left_out}

    def _forget(self, now: float) -> None:
        while self._told and now - self._told[0] >= _MINUTE_S:
            self._told.popleft()
        old = [key for key, since in self._recent.items() if now - since >= REPEAT_S]
        for key in old:
            del self._recent[key]
        # What was repeated and then left in peace for a while needs no count any more.
        if len(self._repeated) > 10 * self._per_minute:
            self._repeated.clear()
