"""The verdict: every writer's side log against what the server holds, once everything has arrived."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.chaos.expectation import Expectation, Finding, compare
from tests.chaos.network_faults import SPLITTING
from tests.end_to_end.acknowledged import read_points
from tests.support.server_process import ServerProcess

PROJECT = "chaos"
ASK_AGAIN_S = 0.5
ENDED = frozenset(("finished", "failed", "crashed"))


@dataclass
class Verdict:
    """What came of all writers together."""

    writers: int = 0
    records: int = 0
    lost: int = 0
    doubled: int = 0
    disordered: int = 0
    invented: int = 0
    power: int = 0
    given_up: int = 0
    dropped: int = 0  #: the full disk refused them, and log() counted them
    reported: int = 0  #: of those, how many the server knows of
    runs: int = 0
    gaps: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    @property
    def good(self) -> bool:
        """Whether every promise was kept."""
        return not (self.lost or self.doubled or self.disordered or self.invented or self.problems)


def judge(
    server: ServerProcess,
    expectations: list[Expectation],
    patience_s: float,
    keep_up: Callable[[], None],
) -> Verdict:
    """Compare everything; what is still under way is waited for, patience_s at most in all.

    keep_up: called now and then; starts agents again that could not go on.
    """
    verdict = Verdict()
    deadline = time.monotonic() + patience_s
    runs: dict[str, list[Expectation]] = {}
    for each in expectations:
        runs.setdefault(each.run, []).append(each)
    for run, members in runs.items():
        _judge_run(server, run, members, deadline, verdict, keep_up)
    return verdict


def _judge_run(
    server: ServerProcess,
    run: str,
    members: list[Expectation],
    deadline: float,
    verdict: Verdict,
    keep_up: Callable[[], None],
) -> None:
    noted = [each.noted() for each in members]
    certain = [
        len(kept) if each.certain is None else each.certain
        for each, (kept, _) in zip(members, noted, strict=True)
    ]
    powerless = any(each.certain is not None for each in members)
    if not any(certain):
        # Killed before its first record, or taken by the power whole: nothing is promised.
        return
    while True:
        page = server.try_get(f"/api/v1/runs/default/{PROJECT}/{run}")
        gaps = _gaps(page)
        given_up = sum(
            "answer" in reason or reason.startswith(tuple(map(str, SPLITTING))) for _, reason in gaps
        )
        findings = [
            compare(
                each, kept, read_points(server, run, each.metric, PROJECT) if page else [], given_up * 100
            )
            for each, (kept, _) in zip(members, noted, strict=True)
        ]
        ended = powerless or (page is not None and page["state"] in ENDED)
        if (ended and not any(finding.lost for finding in findings)) or time.monotonic() > deadline:
            break
        keep_up()
        time.sleep(ASK_AGAIN_S)
    verdict.runs += 1
    wholly = all(each.finished and not each.exit_refused for each in members)
    for each, finding in zip(members, findings, strict=True):
        _add(verdict, each, finding)
    reported = sum(lost["records"] for stream in _streams(page) for lost in stream["lost"])
    dropped = sum(count for _, count in noted)
    if wholly and not powerless and reported != dropped:
        verdict.problems.append(f"run {run}: {dropped} records were refused by the disk, {reported} reported")
    verdict.dropped += dropped
    verdict.reported += reported
    for _, reason in gaps:
        verdict.gaps[reason[:60]] = verdict.gaps.get(reason[:60], 0) + 1
    state = page["state"] if page else "unknown to the server"
    # One that was killed before it logged anything may have been too early for its run to know.
    early = any(not each.finished and not kept for each, (kept, _) in zip(members, noted, strict=True))
    right = {"finished"} if wholly else {"crashed"}
    if not wholly and all(each["state"] == "ended" or each.get("parent") for each in _streams(page)):
        right.add("finished")  # whether a fork that was killed matters is for its parent to say
    if not powerless and not early and state not in right:
        verdict.problems.append(f"run {run} is {state}; it {'finished' if wholly else 'was killed'}")
    if gaps and not powerless and any(not _excused(reason) for _, reason in gaps):
        verdict.problems.append(f"run {run} has gaps: {gaps[:3]}")


def _add(verdict: Verdict, expected: Expectation, finding: Finding) -> None:
    verdict.writers += 1
    for name in ("records", "lost", "doubled", "disordered", "invented", "power", "given_up"):
        setattr(verdict, name, getattr(verdict, name) + getattr(finding, name))
    if not finding.good:
        said = ", ".join(finding.problems) or (
            f"lost {finding.lost}, doubled {finding.doubled}, disordered {finding.disordered}, "
            f"invented {finding.invented}"
        )
        verdict.problems.append(f"run {expected.run} {expected.metric} ({expected.side_log}): {said}")


def _streams(page: Any) -> list[Any]:
    return page["streams"] if page else []


def _gaps(page: Any) -> list[tuple[int, str]]:
    return [(gap["bytes"], gap["reason"]) for stream in _streams(page) for gap in stream["gaps"]]


def _excused(reason: str) -> bool:
    """Whether a gap is what a fault of ours forces: a line torn by a full disk, or refused by an answer."""
    return "torn" in reason or reason.startswith(tuple(map(str, SPLITTING)))
