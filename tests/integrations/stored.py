"""A run as a real server has it: every point, config, summary, rich values and the bytes of its files."""

from __future__ import annotations

import functools
from typing import Any
from urllib.parse import quote

from tests.support.agent_process import AgentProcess, wait_until
from tests.support.http_client import ask
from tests.support.server_process import ServerProcess

SHIPPED_S = 60.0
SPECIAL = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}


class StoredRun:
    """One run. Ask after wait()."""

    def __init__(self, server: ServerProcess, agent: AgentProcess, project: str, run: str) -> None:
        self._server = server
        self._agent = agent
        self._path = f"/api/v1/runs/default/{quote(project, safe='')}/{quote(run, safe='')}"

    def wait(self) -> None:
        """Return when the run has ended and the agent has nothing left to send."""
        wait_until(self._has_ended, SHIPPED_S, what=f"the end of {self._path}")
        wait_until(self._is_shipped, SHIPPED_S, what=f"all files of {self._path}")

    def _has_ended(self) -> bool:
        page = self._server.try_get(self._path)
        return page is not None and page["state"] != "running"

    def _is_shipped(self) -> bool:
        status = self._agent.status()
        runs = (status or {}).get("shipping", {}).get("files", {}).get("runs", {})
        return bool(runs) and runs.get("known") == runs.get("done")

    @functools.cached_property
    def page(self) -> dict[str, Any]:
        """What the page of the run shows."""
        page: dict[str, Any] = self._server.get(self._path)
        return page

    @property
    def config(self) -> dict[str, Any]:
        """The whole config."""
        config: dict[str, Any] = self.page["config"]
        return config

    @property
    def summary(self) -> dict[str, Any]:
        """The whole summary."""
        summary: dict[str, Any] = self.page["summary"]
        return summary

    @functools.cached_property
    def metrics(self) -> list[str]:
        """The names of all metrics."""
        return sorted(each["name"] for each in self._server.get(self._path + "/metrics")["metrics"])

    def points(self, metric: str) -> dict[int, float]:
        """Return a metric's values by step. There must be one at each."""
        found = self._server.get(self._path + "/points", {"metric": metric, "limit": 100_000})
        assert not found["more"]
        points = found["points"].get(metric, {"step": [], "value": []})
        assert len(set(points["step"])) == len(points["step"]), f"{metric} twice at one step"
        return {
            step: SPECIAL.get(value, value) if isinstance(value, str) else value
            for step, value in zip(points["step"], points["value"], strict=True)
        }

    def values_by(self, axis: str, metric: str) -> dict[float, float]:
        """Return a metric's values by those of another metric at the same step."""
        at = self.points(axis)
        return {at[step]: value for step, value in self.points(metric).items()}

    def rich(self, name: str) -> list[dict[str, Any]]:
        """Return the rich values of a name, oldest first."""
        found = self._server.get(self._path + "/values", {"name": name})["values"]
        return sorted(found, key=lambda value: value["time"])

    def columns(self, name: str, number: int = -1) -> dict[str, list[Any]]:
        """Return the columns of the newest table or chart of a name, or another one by its number."""
        data = self.rich(name)[number]["data"]
        table = data.get("table", data)
        return dict(zip(table["columns"], table["data"], strict=True))

    @functools.cached_property
    def file_names(self) -> list[str]:
        """The paths of all files."""
        answer = self._server.get(self._path + "/files")
        assert answer["cursor"] is None
        return sorted(each["path"] for each in answer["files"])

    def file(self, path: str) -> bytes:
        """Return the bytes of a file."""
        answer = ask(
            self._server.url, "GET", self._path + "/file", key=self._server.admin_key, params={"path": path}
        )
        assert answer.status == 200, (path, self.file_names)
        return answer.body

    def artifact_files(self, artifact: str, name: str) -> list[bytes]:
        """Return the bytes of a file in every version of an artifact."""
        place = f"files/artifacts/{artifact}/"
        return [
            self.file(path)
            for path in self.file_names
            if path.startswith(place) and path.endswith("/" + name)
        ]
