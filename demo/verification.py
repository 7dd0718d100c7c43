"""Compares what a training logged (its side log) with what the server's public API has of it."""

import json
import time
import urllib.error
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

FINISH_TIMEOUT_S = 60
POINTS_PER_REQUEST = 10_000
DIFFERENCES_SHOWN = 10

Get = Callable[[str], Any]
#: (step, value) in the order they were logged, or arrived.
Points = list[tuple[int, float]]


class Logged(NamedTuple):
    """Everything that a training logged."""

    run: str
    project: str
    config: Mapping[str, Any]
    summary: Mapping[str, Any]
    metrics: Mapping[str, Points]
    records: int

    @property
    def points(self) -> int:
        """The number of values."""
        return sum(len(each) for each in self.metrics.values())


def read_side_log(path: Path) -> Logged:
    """Read what demo.side_log wrote."""
    *calls, end = [json.loads(line) for line in path.read_text().splitlines()]
    metrics: dict[str, Points] = {}
    for call in calls:
        for name, value in call["values"].items():
            metrics.setdefault(name, []).append((call["step"], value))
    return Logged(end["run"], end["project"], end["config"], end["summary"], metrics, len(calls))


def verify(get: Get, logged: Logged) -> list[str]:
    """Return what differs between the side log and the server; nothing, if all is well."""
    run = _wait_until_finished(get, logged)
    if run is None:
        return [f"run {logged.run} of project {logged.project} is not known to the server"]
    address = "/api/v1/runs/" + "/".join(quote(run[part], safe="") for part in ("entity", "project", "run"))
    details = get(address)
    problems = []
    if details["state"] != "finished":
        problems.append(f"state: expected finished, the server says {details['state']}")
    problems += compare_mapping("config", logged.config, details["config"])
    problems += compare_mapping("summary", logged.summary, details["summary"])
    problems += compare_names(logged.metrics, [each["name"] for each in get(f"{address}/metrics")["metrics"]])
    for name, points in logged.metrics.items():
        problems += compare_points(name, points, stored_points(get, address, name))
    return problems


def compare_points(name: str, logged: Points, stored: Points) -> list[str]:
    """Return how the stored points of one metric differ from the logged ones, which arrive in order."""
    missing, extra = Counter(logged) - Counter(stored), Counter(stored) - Counter(logged)
    if not missing and not extra:
        return [] if logged == stored else [f"{name}: all {len(logged)} values arrived, but in another order"]
    found = [f"{name}: {len(logged)} values logged, {len(stored)} stored"]
    for sign, what, points in (("-", "missing", missing), ("+", "double or never logged", extra)):
        for (step, value), count in list(points.items())[:DIFFERENCES_SHOWN]:
            found.append(f"  {sign} step {step}: {value!r} {what}{f' ({count} times)' if count > 1 else ''}")
        if len(points) > DIFFERENCES_SHOWN:
            found.append(f"  {sign} and {len(points) - DIFFERENCES_SHOWN} more {what}")
    return found


def compare_names(logged: Mapping[str, Points], stored: Sequence[str]) -> list[str]:
    """Return which metrics are missing, double, or came from nowhere."""
    missing, extra = Counter(logged.keys()) - Counter(stored), Counter(stored) - Counter(logged.keys())
    return [f"metric {name}: missing" for name in missing] + [
        f"metric {name}: not expected" for name in extra
    ]


def compare_mapping(what: str, logged: Mapping[str, Any], stored: Mapping[str, Any]) -> list[str]:
    """Return which entries differ."""
    absent = object()
    return [
        f"{what}.{key}: expected {logged.get(key)!r}, the server says {stored.get(key)!r}"
        for key in sorted(logged.keys() | stored.keys())
        if logged.get(key, absent) != stored.get(key, absent)
    ]


def stored_points(get: Get, address: str, name: str) -> Points:
    """Return all points of a metric in the order they arrived."""
    points: Points = []
    cursor, more = 0, True
    while more:
        query = urlencode({"metric": name, "after": cursor, "limit": POINTS_PER_REQUEST})
        answer = get(f"{address}/points?{query}")
        columns = answer["points"].get(name, {"step": [], "value": []})
        points += zip(columns["step"], columns["value"], strict=True)
        cursor, more = answer["cursor"], answer["more"]
    return points


def _wait_until_finished(get: Get, logged: Logged) -> Any:
    """Return the run once it is in its final state, or as it is when the time is over."""
    deadline = time.monotonic() + FINISH_TIMEOUT_S
    while True:
        try:
            run = get("/api/v1/find?" + urlencode({"run": logged.run, "project": logged.project}))
        except urllib.error.HTTPError as error:
            if error.code != 404:
                raise
            run = None
        if (run is not None and run["state"] != "running") or time.monotonic() > deadline:
            return run
        time.sleep(0.1)
