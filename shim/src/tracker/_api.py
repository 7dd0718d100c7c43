"""Api: reads runs back from the server. Calls wait for it, with a bound, and raise CommError or UsageError.

Names and results are those of wandb's public API, as far as they make sense here: what a script or notebook
needs to compare runs. A path is entity/project/run, project/run or a run's id.
"""

import os
from typing import Any, Dict, Iterator, List, Mapping, Optional

from . import _loading
from ._api_run import ApiRun
from ._errors import UsageError
from ._kept import RemoteRun, RunPath, parse_run_path, remote_run
from ._remote import Remote, find_remote
from ._wishes import Wishes


class Api:
    """A server, asked with the key that this user's runs are shipped with, or with api_key."""

    def __init__(
        self,
        overrides: Optional[Mapping[str, Any]] = None,
        timeout: Optional[float] = None,
        api_key: Optional[str] = None,
    ) -> None:
        """overrides: base_url, project, entity. timeout: seconds without an answer."""
        given = dict(overrides or {}, api_key=api_key)
        self._settings = Wishes(given, {}, False).settings
        found = find_remote(self._settings, os.environ)
        self._remote = found if timeout is None else found.with_timeout(timeout)

    @property
    def default_entity(self) -> Optional[str]:
        """The entity of the key."""
        return next((each["entity"] for each in self._remote.get("/api/v1/projects")["projects"]), None)

    def projects(self, entity: Optional[str] = None, per_page: int = 200) -> List["ApiProject"]:  # noqa: ARG002
        """Return the projects that the key may read."""
        listed = self._remote.get("/api/v1/projects")["projects"]
        return [ApiProject(each) for each in listed if entity in (None, each["entity"])]

    def run(self, path: str = "") -> ApiRun:
        """Return a run. Raise CommError where there is none."""
        wanted = parse_run_path(path)
        if not wanted.project and self._settings.project != "uncategorized":
            wanted = wanted._replace(project=self._settings.project)
        return ApiRun(self._remote, remote_run(wanted, self._remote))

    def runs(
        self,
        path: Optional[str] = None,
        filters: Optional[Mapping[str, Any]] = None,
        order: str = "-created_at",
        per_page: int = 50,
        include_sweeps: bool = True,  # noqa: ARG002 - there are none
    ) -> "Runs":
        """Return the runs of a project (or of all), the newest first.

        filters: values by name (state, group, job_type, tags, display_name, config.X, summary_metrics.X)
        that must be equal, or {"$gt": …} and the like of them. order: created_at, updated_at, name or state,
        "-" before it for descending.
        """
        project = (path or "").strip("/").rpartition("/")[2] or None
        return Runs(self._remote, project, dict(filters or {}), order, per_page)

    def artifact(self, name: str, type: Optional[str] = None) -> Any:  # noqa: A002 - the name scripts use
        """Return an artifact by [[ENTITY/]PROJECT/]NAME[:VERSION or alias]. Raise Error."""
        with _loading.lock:
            from ._artifacts import find_artifact

        asked = _Asked(self._settings)
        artifact = find_artifact(asked, name)
        if type is not None and artifact.type != type:
            raise UsageError("the artifact %s has the type %s, not %s" % (artifact.name, artifact.type, type))
        return artifact

    def flush(self) -> None:
        """Do nothing: nothing is kept that could be old."""


class _Asked:
    """Stands for the run that asks for an artifact, where there is none."""

    def __init__(self, settings: Any) -> None:
        self.settings = settings
        self.project = settings.project
        self.entity = settings.entity
        self.directory = os.path.join(os.sep, "nonexistent")


class ApiProject:
    """A project."""

    def __init__(self, row: Mapping[str, Any]) -> None:
        self.name = str(row["project"])
        self.entity = str(row["entity"])
        self.runs = int(row["runs"])

    def __repr__(self) -> str:
        return "<project %s/%s>" % (self.entity, self.name)


class Runs:
    """Runs, asked for a page at a time as they are iterated over."""

    def __init__(
        self, remote: Remote, project: Optional[str], filters: Dict[str, Any], order: str, per_page: int
    ) -> None:
        self._remote = remote
        self._project = project
        self._filters = filters
        sign = "-" if order.startswith("-") else ""
        names = {"created_at": "created", "updated_at": "updated", "display_name": "name"}
        name = order.lstrip("+-")
        self._sort = sign + names.get(name, name)
        self._per_page = max(1, min(int(per_page), 1000))

    def __iter__(self) -> Iterator[ApiRun]:
        rows = self._remote.pages(
            "/api/v1/runs", "runs", project=self._project, sort=self._sort, limit=self._per_page
        )
        for row in rows:
            path = RunPath(row["entity"], row["project"], row["run"])
            run = ApiRun(self._remote, RemoteRun(self._remote, path), row)
            if all(_fits(run, name, wanted) for name, wanted in self._filters.items()):
                yield run

    def __len__(self) -> int:
        if self._filters:
            return sum(1 for _ in self)
        answer = self._remote.get("/api/v1/runs", project=self._project, limit=1)
        return int(answer["total"])

    def __getitem__(self, index: Any) -> Any:
        return list(self)[index]


def _fits(run: ApiRun, name: str, wanted: Any) -> bool:
    """Return whether a run is as one filter asks. Raise UsageError for what filters cannot say."""
    if name in ("$and", "$or"):
        results = [all(_fits(run, *pair) for pair in each.items()) for each in wanted]
        return all(results) if name == "$and" else any(results)
    names = {"display_name": "name", "displayName": "name", "jobType": "job_type", "username": "user"}
    kind, _, key = name.partition(".")
    if key and kind == "config":
        value = run.config.get(key)
    elif key and kind in ("summary_metrics", "summary"):
        value = run.summary.get(key)
    else:
        value = getattr(run, names.get(name, name), None)
    if not isinstance(wanted, dict):
        return wanted in value if isinstance(value, list) else bool(value == wanted)
    return all(_compare(value, sign, operand) for sign, operand in wanted.items())


def _compare(value: Any, sign: str, operand: Any) -> bool:
    if sign == "$in":
        return any(each in operand for each in value) if isinstance(value, list) else value in operand
    if sign == "$nin":
        return not _compare(value, "$in", operand)
    if sign == "$ne":
        return bool(value != operand)
    if sign == "$eq":
        return bool(value == operand)
    if sign == "$exists":
        return (value is not None) == bool(operand)
    if sign not in ("$gt", "$gte", "$lt", "$lte"):
        raise UsageError("filters do not know %s" % sign)
    if not isinstance(value, (int, float)) or not isinstance(operand, (int, float)):
        return False
    return bool(
        {"$gt": value > operand, "$gte": value >= operand, "$lt": value < operand, "$lte": value <= operand}[
            sign
        ]
    )
