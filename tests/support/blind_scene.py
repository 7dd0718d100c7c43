"""A Scene that sees nothing of how processes end, for tests whose processes are not real."""

from __future__ import annotations

from collections.abc import Iterable

from tracker_agent.evidence import Findings
from tracker_agent.exit_status import ExitStatus
from tracker_agent.scene import Baseline, Scene


class BlindScene(Scene):
    """Answers every question, with nothing."""

    def __init__(self, _: bool = True) -> None:
        pass

    def kernel_log_problem(self) -> str:
        """Say that there is none."""
        return "blind"

    def arrive(self, pid: int, stream_began_ns: int) -> Baseline | None:
        """Take note of a writer."""
        return Baseline(pid, 0, stream_began_ns / 1e9, 0.0, None)

    def refresh(self, baselines: Iterable[Baseline]) -> None:
        """Do nothing."""

    def status(self, baseline: Baseline) -> ExitStatus | None:
        """Know nothing."""
        return None

    def depart(self, baseline: Baseline, status: ExitStatus | None) -> Findings:
        """Find nothing."""
        return Findings(status)

    def forget(self, baseline: Baseline) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""
