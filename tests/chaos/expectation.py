"""What the server must hold of one writer, by the side log that the writer kept where no fault reaches."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from pathlib import Path

Points = list[tuple[int, float]]


@dataclass
class Expectation:
    """One writer process: its run, the metric that only it logs, and its side log."""

    run: str
    metric: str
    side_log: Path
    finished: bool = False  #: it ended by itself, and everything after it
    #: Set where the power failed while it, or what it had written, could still be in memory: how many
    #: records were certainly on disk. None: nothing may be missing.
    certain: int | None = None

    @property
    def exit_refused(self) -> bool:
        """Whether the disk refused the record that says that the writer ended."""
        return self.side_log.exists() and self.side_log.read_text().endswith("x\n")

    def noted(self) -> tuple[Points, int]:
        """Return the records that log() kept, and how many it counted as dropped."""
        text = self.side_log.read_text() if self.side_log.exists() else ""
        kept: Points = []
        dropped = 0
        for line in text[: text.rfind("\n") + 1].removesuffix("x\n").splitlines():
            fate, step, value = line.split()
            if fate == "k":
                kept.append((int(step), float(value)))
            else:
                dropped += 1
        return kept, dropped


@dataclass
class Finding:
    """What came of comparing one writer's side log with the server."""

    lost: int = 0
    doubled: int = 0
    disordered: int = 0
    invented: int = 0
    power: int = 0  #: went with the power, as they may
    given_up: int = 0  #: refused for good by an answer that the faults put in the server's place
    records: int = 0
    problems: list[str] = field(default_factory=list)

    @property
    def good(self) -> bool:
        """Whether no promise was broken."""
        return not (self.lost or self.doubled or self.disordered or self.invented or self.problems)


def compare(expected: Expectation, kept: Points, stored: Points, given_up: int) -> Finding:
    """Compare. `given_up`: records that may be missing as the server holds gaps with that reason."""
    finding = Finding(records=len(stored))
    seen = set(stored)
    known = set(kept)
    where = {point: index for index, point in enumerate(kept)}
    finding.doubled = len(stored) - len(seen)
    order = [where[point] for point in stored if point in where]
    finding.disordered = sum(later <= earlier for earlier, later in itertools.pairwise(order))
    finding.disordered -= min(finding.disordered, finding.doubled)
    strangers = [point for point in stored if point not in known]
    if len(strangers) == 1 and strangers[0] == stored[-1] and not expected.finished:
        strangers = []  # killed between log() and the note
    finding.invented = len(strangers)
    missing = [index for index, point in enumerate(kept) if point not in seen]
    if expected.certain is not None:
        # What the kernel had not written back may be gone.
        certain = [index for index in missing if index < expected.certain]
        finding.power = len(missing) - len(certain)
        missing = certain
    if missing and len(missing) <= given_up:
        finding.given_up = len(missing)
        missing = []
    finding.lost = len(missing)
    if missing:
        finding.problems.append(f"missing: {[kept[index][0] for index in missing[:5]]} of {len(kept)}")
    return finding
