"""What a training process noted as logged, against what the server stored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

Points = list[tuple[int, float]]


def read_side_log(path: Path) -> Points:
    """Return (step, value) of each whole line of a side log."""
    text = path.read_text() if path.exists() else ""
    lines = text[: text.rfind("\n") + 1].splitlines()
    return [(int(step), float(value)) for step, value in (line.split() for line in lines)]


def read_points(server: Any, run: str, metric: str = "value", project: str = "end-to-end") -> Points:
    """Return every stored (step, value) of a metric in arrival order, through the public API."""
    points: Points = []
    cursor = 0
    while True:
        answer = server.get(
            f"/api/v1/runs/default/{project}/{run}/points", params={"metric": metric, "after": str(cursor)}
        )
        columns = answer["points"].get(metric, {"step": [], "value": []})
        points += zip(columns["step"], columns["value"], strict=True)
        cursor = answer["cursor"]
        if not answer["more"]:
            return points


def check_stored_once_in_order(noted: Points, stored: Points) -> None:
    """Fail unless stored is exactly what was noted, but for one last record killed before its note."""
    assert stored[: len(noted)] == noted, first_difference(noted, stored)
    assert len(stored) - len(noted) in (0, 1), f"{len(noted)} noted, {len(stored)} stored"


def first_difference(noted: Points, stored: Points) -> str:
    """Say where two lists of points part."""
    for index, pair in enumerate(zip(noted, stored, strict=False)):
        if pair[0] != pair[1]:
            return f"record {index}: noted {pair[0]}, stored {pair[1]}"
    return f"{len(noted)} noted, only {len(stored)} stored"
