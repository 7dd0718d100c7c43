"""What is known of one collector: when it is due, how it is, what it costs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass
class CollectorState:
    """What status shows of one collector, and what the sampler needs to ask it in time."""

    interval_s: float
    deadline_s: float
    state: str = "starting"
    reason: str = ""
    samples: int = 0
    failures: int = 0
    skipped: int = 0
    cost_s: float = 0.0  #: processor time of all samples
    took_s: float = 0.0  #: how long the last one took
    asked_at: float = 0.0
    read_at: float = 0.0
    due: float = 0.0
    facts: dict[str, Any] | None = None
    values: Mapping[str, float] = field(default_factory=dict)  #: of the last sample

    @property
    def works(self) -> bool:
        """Whether the last sample brought something."""
        return self.state in ("ok", "degraded")

    def count(self, cost_s: float, took_s: float, now: float) -> None:
        """Note that a sample is there."""
        self.samples += 1
        self.cost_s += cost_s
        self.took_s = took_s
        self.read_at = now

    def is_due(self, now: float, tolerance_s: float) -> bool:
        """Return whether it is to be asked now, and note when it is the next time."""
        if now < self.due - tolerance_s:
            return False
        self.due += self.interval_s
        if self.due <= now:
            self.due = now + self.interval_s
        return True

    def overdue(self, now: float) -> bool:
        """Return whether a sample that is under way takes longer than it may."""
        return now - self.asked_at > self.deadline_s

    def shown(self, now: float, stuck: bool) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "state": "stuck" if stuck else self.state,
            "reason": f"no answer for {now - self.asked_at:.0f} s" if stuck else self.reason,
            "interval_s": self.interval_s,
            "samples": self.samples,
            "failures": self.failures,
            "skipped": self.skipped,
            "cost_ms": round(1000 * self.cost_s / max(1, self.samples), 3),
            "took_ms": round(1000 * self.took_s, 3),
        }
