"""`make demo DEMO_EXIT=1` must not pass when something is missing, double, altered or out of order."""

import io
import json
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

import demo.verification
from demo.verification import Logged, compare_points, read_side_log, verify

LOSS = [(0, 0.5), (1, 0.25), (2, 0.125)]


class FakeApi:
    """Answers the public API's questions about one run, with pages of two records."""

    def __init__(self, points: dict[str, list[tuple[int, float]]], state: str = "finished") -> None:
        self.points = points
        self.state = state
        self.config: dict[str, Any] = {"seed": 1}
        self.summary: dict[str, Any] = {"loss": 0.125}

    def get(self, address: str) -> Any:
        path, query = urlsplit(address).path, parse_qs(urlsplit(address).query)
        if path == "/api/v1/find":
            return {"entity": "default", "project": "digits", "run": "r1", "state": self.state}
        if path == "/api/v1/runs/default/digits/r1":
            return {"state": self.state, "config": self.config, "summary": self.summary}
        if path == "/api/v1/runs/default/digits/r1/metrics":
            return {"metrics": [{"name": name} for name in self.points]}
        assert path == "/api/v1/runs/default/digits/r1/points"
        [name], [after] = query["metric"], query["after"]
        page = self.points[name][int(after) : int(after) + 2]
        cursor = int(after) + len(page)
        columns = {"step": [step for step, _ in page], "value": [value for _, value in page]}
        return {"points": {name: columns}, "cursor": cursor, "more": cursor < len(self.points[name])}


def logged(**changes: Any) -> Logged:
    whole = Logged("r1", "digits", {"seed": 1}, {"loss": 0.125}, {"loss": LOSS}, 3)
    return whole._replace(**changes)


def test_everything_stored_once_is_no_problem() -> None:
    assert verify(FakeApi({"loss": LOSS}).get, logged()) == []


@pytest.mark.parametrize(
    ("stored", "complaint"),
    [
        (LOSS[:2], "step 2: 0.125 missing"),
        ([*LOSS, LOSS[1]], "step 1: 0.25 double"),
        ([LOSS[0], (1, 0.26), LOSS[2]], "step 1: 0.26 double or never logged"),
        ([LOSS[1], LOSS[0], LOSS[2]], "in another order"),
        ([], "3 values logged, 0 stored"),
    ],
)
def test_points_that_differ_are_named(stored: list[tuple[int, float]], complaint: str) -> None:
    assert complaint in "\n".join(compare_points("loss", LOSS, stored))


def test_metric_that_is_missing_is_named() -> None:
    api = FakeApi({"loss": LOSS, "accuracy": []})

    problems = verify(api.get, logged())

    assert problems == ["metric accuracy: not expected"]


def test_config_summary_and_state_that_differ_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo.verification, "FINISH_TIMEOUT_S", 0)
    api = FakeApi({"loss": LOSS}, state="running")
    api.config, api.summary = {"seed": 2}, {}

    problems = verify(api.get, logged())

    assert [problem.partition(":")[0] for problem in problems] == ["state", "config.seed", "summary.loss"]


def test_side_log_lists_what_a_script_logged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import tracker
    from demo.side_log import note_calls

    side_log = io.StringIO()
    monkeypatch.setenv("TRACKER_DIR", str(tmp_path))
    for name in ("log", "finish"):
        monkeypatch.setattr(tracker, name, getattr(tracker, name))
    note_calls(side_log)

    tracker.init(project="digits", config={"seed": 1})
    tracker.log({"loss": 0.5})
    tracker.log({"loss": 0.25, "accuracy": 1.0}, step=7)
    tracker.finish()
    (tmp_path / "side-log").write_text(side_log.getvalue())
    noted = read_side_log(tmp_path / "side-log")

    assert noted.metrics == {"loss": [(0, 0.5), (7, 0.25)], "accuracy": [(7, 1.0)]}
    assert noted.config == {"seed": 1}
    assert noted.summary == {"loss": 0.25, "accuracy": 1.0}
    assert (noted.records, noted.points) == (2, 3)
    assert json.loads(side_log.getvalue().splitlines()[0]) == {"step": 0, "values": {"loss": 0.5}}
