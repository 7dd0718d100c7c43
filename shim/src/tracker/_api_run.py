"""ApiRun: one run as the server knows it: its description, values and files (see _api.py)."""

import importlib
import os
import urllib.parse
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence

from ._errors import CommError, UsageError
from ._kept import RemoteRun
from ._remote import Remote

#: Metrics that one request asks for.
METRICS_PER_REQUEST = 200
POINTS_PER_REQUEST = 100000
VALUES_MAX = 10000
_NOT_FINITE = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}


class ApiRun:
    """A run on the server, as it was when it was asked for; load() asks again."""

    def __init__(self, remote: Remote, kept: RemoteRun, row: Optional[Mapping[str, Any]] = None) -> None:
        self._remote = remote
        self._kept = kept
        self._row: Dict[str, Any] = dict(row or {})
        self._detail: Optional[Dict[str, Any]] = None
        if row is None:
            self.load()

    def load(self, force: bool = True) -> None:
        """Ask for what is known about the run now."""
        if force or self._detail is None:
            detail = self._detail = self._remote.get(self._kept.base)
            self._row.update(detail)

    @property
    def id(self) -> str:
        """The run's id."""
        return str(self._row["run"])

    @property
    def path(self) -> List[str]:
        """Entity, project and id."""
        return [self.entity, self.project, self.id]

    @property
    def url(self) -> str:
        """Where to see the run."""
        return "%s/runs/%s?project=%s" % (
            self._remote.server,
            urllib.parse.quote(self.id, safe=""),
            urllib.parse.quote(self.project, safe=""),
        )

    def __getattr__(self, name: str) -> Any:
        """Return what the server tells of a run: name, state, tags, group, job_type, notes, user and more."""
        names = {"created_at": "created", "updated_at": "updated", "heartbeat_at": "updated"}
        row = self.__dict__.get("_row", {})
        if name in names and names[name] in row:
            return _iso_time(row[names[name]])
        if name in row and name not in ("config", "summary", "fields"):
            return row[name]
        if name.startswith("_") or self.__dict__.get("_detail") is not None:
            raise AttributeError("a run has no %r" % name)
        self.load()
        return getattr(self, name)

    @property
    def config(self) -> Dict[str, Any]:
        """The run's settings."""
        return dict(self._details()["config"])

    @property
    def summary(self) -> Dict[str, Any]:
        """Last values of metrics, or what define_metric() asked for, and what was set by hand."""
        return {name: _number(value) for name, value in self._details()["summary"].items()}

    summary_metrics = summary

    @property
    def metadata(self) -> Dict[str, Any]:
        """What was recorded of code, command and machine."""
        return dict(self._details()["fields"])

    @property
    def lastHistoryStep(self) -> int:  # noqa: N802 - its name in scripts
        """The greatest step, -1 where there is none."""
        steps = self._row.get("steps")
        return -1 if steps is None else int(steps)

    def _details(self) -> Dict[str, Any]:
        self.load(force=False)
        assert self._detail is not None
        return self._detail

    # Values

    def scan_history(
        self,
        keys: Optional[Sequence[str]] = None,
        page_size: int = 1000,  # noqa: ARG002 - the server knows better
        min_step: Optional[int] = None,
        max_step: Optional[int] = None,
    ) -> Iterator[Dict[str, Any]]:
        """Yield a dict for each step, with `_step` and `_timestamp` (s).

        With keys: these alone, of steps where all of them have values. All values are read before the first
        is yielded.
        """
        rows: Dict[int, Dict[str, Any]] = {}
        wanted = [key for key in keys or () if not key.startswith("_")]
        names = wanted or [each["name"] for each in self._remote.get(self._kept.base + "/metrics")["metrics"]]
        for at in range(0, len(names), METRICS_PER_REQUEST):
            self._read_points(names[at : at + METRICS_PER_REQUEST], rows)
        for value in self._remote.get(self._kept.base + "/values", limit=VALUES_MAX)["values"]:
            if value["step"] is not None and (not wanted or value["name"] in wanted):
                row = rows.setdefault(value["step"], {})
                row[value["name"]] = value["data"]
                row["_timestamp"] = max(row.get("_timestamp", 0), value["time"])
        for step in sorted(rows):
            row = rows[step]
            below = min_step is not None and step < min_step
            beyond = max_step is not None and step >= max_step
            if below or beyond or not all(key in row for key in wanted):
                continue
            found = {"_step": step, "_timestamp": row.pop("_timestamp") / 1e9}
            found.update(row)
            yield {key: found[key] for key in keys} if keys else found

    def _read_points(self, names: List[str], rows: Dict[int, Dict[str, Any]]) -> None:
        after = 0
        while True:
            page = self._remote.get(
                self._kept.base + "/points", metric=names, after=after, limit=POINTS_PER_REQUEST
            )
            for name, points in page["points"].items():
                for step, time, value in zip(points["step"], points["time"], points["value"]):
                    row = rows.setdefault(step, {})
                    row[name] = _number(value)
                    row["_timestamp"] = max(row.get("_timestamp", 0), time)
            if not page["more"]:
                return
            after = page["cursor"]

    def history(
        self,
        samples: int = 500,
        keys: Optional[Sequence[str]] = None,
        x_axis: str = "_step",
        pandas: bool = True,
        stream: str = "default",
    ) -> Any:
        """Return at most so many rows, evenly chosen: a data frame, or with pandas=False a list of dicts."""
        if stream != "default":
            raise UsageError("the machine's metrics are on the run's page, not in its history")
        asked = None if keys is None else [x_axis] + [key for key in keys if key != x_axis]
        rows = list(self.scan_history(asked))
        if len(rows) > samples > 0:
            rows = [rows[index * len(rows) // samples] for index in range(samples)]
        if not pandas:
            return rows
        try:
            library = importlib.import_module("pandas")
        except ImportError:
            raise UsageError(
                "history() makes a data frame, which takes pandas: install it, or say pandas=False"
            ) from None
        return library.DataFrame.from_records(rows)

    def console_logs(self) -> List[str]:
        """Return the lines that the run printed."""
        lines: List[str] = []
        after = 0
        while True:
            page = self._remote.get(self._kept.base + "/console", after=after, limit=100000)
            lines += [line["text"] for line in page["lines"]]
            if not page["more"]:
                return lines
            after = page["cursor"]

    # Files

    def files(self, names: Optional[Sequence[str]] = None, per_page: int = 50) -> List["ApiFile"]:  # noqa: ARG002
        """Return the files of the run, or those of some names."""
        found = [ApiFile(self._kept, path) for path in self._kept.files()]
        return [file for file in found if not names or file.name in names or file.path in names]

    def file(self, name: str) -> "ApiFile":
        """Return a file. Raise CommError where there is none."""
        for file in self.files([name]):
            return file
        raise CommError("there is no %s in %s" % (name, self._kept.where))

    def __repr__(self) -> str:
        return "<run %s (%s)>" % ("/".join(self.path), self._row.get("state"))


class ApiFile:
    """A file of a run. name: its path without `files/`."""

    def __init__(self, kept: RemoteRun, path: str) -> None:
        self._kept = kept
        self.path = path
        self.name = path[len("files/") :] if path.startswith("files/") else path

    def download(self, root: str = ".", replace: bool = False, exist_ok: bool = False) -> Any:
        """Fetch the file to root, and return it open. Raise UsageError where something is there already."""
        target = os.path.abspath(os.path.join(root, *self.name.split("/")))
        base = os.path.abspath(root)
        if not target.startswith(base.rstrip(os.sep) + os.sep):
            raise UsageError("%s would lie outside of %s" % (self.name, base))
        if os.path.exists(target) and not replace:
            if not exist_ok:
                raise UsageError("%s is there already: say replace=True or exist_ok=True" % target)
        else:
            os.makedirs(os.path.dirname(target), exist_ok=True)
            self._kept.fetch(self.path, target)
        return open(target, encoding="utf-8")

    def __repr__(self) -> str:
        return "<file %s>" % self.name


def _number(value: Any) -> Any:
    return _NOT_FINITE.get(value, value) if isinstance(value, str) else value


def _iso_time(time_ns: int) -> str:
    import time

    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time_ns / 1e9))
