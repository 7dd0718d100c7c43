"""Whether the agent does its work, told by progress: data waits, the server takes it, positions move.

That the process is up says nothing. Fed with the status every few seconds; touches nothing itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

#: Data may wait for this long without any of it being taken before that is called stalled.
PROGRESS_S = 60.0


@dataclass(slots=True)
class _Progress:
    """What was seen of one lane. at: when its positions moved last, or nothing waited."""

    positions: int
    at: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """state: starting, idle, shipping, stalled, refused or stuck."""

    state: str
    reasons: tuple[str, ...] = ()

    @property
    def alive(self) -> bool:
        """Whether a restart would not help."""
        return self.state != "stuck"

    @property
    def ready(self) -> bool:
        """Whether the agent ships what there is, or there is nothing to ship."""
        return self.state in ("idle", "shipping")

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {"state": self.state, "ready": self.ready, "reasons": list(self.reasons)}


class Health:
    """Judges by what changed since it looked last."""

    def __init__(self) -> None:
        self.verdict = Verdict("starting")
        self._lanes: dict[str, _Progress] = {}

    def observe(self, lanes: Sequence[Mapping[str, Any]], stuck: Sequence[str], now: float) -> Verdict:
        """Look at the lanes as status has them, and at the loops that do not come round."""
        seen = {_name(lane): lane for lane in lanes}
        self._lanes = {name: each for name, each in self._lanes.items() if name in seen}
        for name, lane in seen.items():
            known = self._lanes.setdefault(name, _Progress(lane["positions"], now))
            if not lane["behind_bytes"] or lane["positions"] != known.positions:
                known.positions, known.at = lane["positions"], now
        self.verdict = self._judge(seen, stuck, now)
        return self.verdict

    def _judge(self, lanes: Mapping[str, Mapping[str, Any]], stuck: Sequence[str], now: float) -> Verdict:
        if stuck:
            return Verdict("stuck", tuple(f"{name} does not come round" for name in stuck))
        if not lanes:
            return Verdict("starting", ("nothing was looked at yet",))
        waiting = {name: lane for name, lane in lanes.items() if lane["behind_bytes"]}
        if not waiting:
            return Verdict("idle")
        parked = {name for name, lane in lanes.items() if lane["state"] == "parked"}
        stalled = [
            f"{name}: nothing taken for {now - self._lanes[name].at:.0f} s: {lane['reason'] or lane['state']}"
            for name, lane in waiting.items()
            if name not in parked and now - self._lanes[name].at > PROGRESS_S
        ]
        if stalled:
            return Verdict("stalled", tuple(stalled))
        refused = tuple(f"{name}: {waiting[name]['reason']}" for name in waiting if name in parked)
        if len(parked) == len(lanes):
            return Verdict("refused", refused)
        # A key that one user may have left does not make the agent ill, but it is said.
        return Verdict("shipping", refused)


def _name(lane: Mapping[str, Any]) -> str:
    server = lane.get("server")
    return f"{lane['credential']} at {server}" if server else str(lane["credential"])
