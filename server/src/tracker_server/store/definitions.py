"""Definitions of metrics: what `metrics` in a run's RUN records says about how each is to be summed up.

Anybody may have written them: what makes no sense is left out. A definition whose name ends in "*" is for all
names that begin so; of several that fit the longest counts, and one of the very name before all.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

#: More are not looked at.
DEFINITIONS_MAX = 1000
#: Each is tried for each metric that has no definition of its own.
GLOBS_MAX = 100
SUMMARIES = ("min", "max", "mean", "best", "last", "first", "copy", "none")


@dataclass(frozen=True)
class Definition:
    """One definition. summary is empty where nothing but the last value is asked for."""

    name: str
    summary: tuple[str, ...] = ()
    maximize: bool = False
    hidden: bool = False
    step_metric: str | None = None


class Extremes(NamedTuple):
    """What is kept of a metric as it comes in. min and max are None where no value was finite."""

    last: float
    min: float | None
    max: float | None


class Definitions:
    """All definitions of a run."""

    def __init__(self, written: Any) -> None:
        """written: the value of `metrics`."""
        self._exact: dict[str, Definition] = {}
        self._globs: list[Definition] = []
        for each in written[:DEFINITIONS_MAX] if isinstance(written, list) else []:
            definition = _parse(each)
            if definition is None:
                continue
            if definition.name.endswith("*"):
                self._globs = [*self._globs, definition][:GLOBS_MAX]
            else:
                self._exact[definition.name] = definition
        self._globs.sort(key=lambda glob: len(glob.name), reverse=True)

    def of(self, name: str) -> Definition | None:
        """Return what counts for a metric."""
        found = self._exact.get(name)
        if found is not None:
            return found
        return next((glob for glob in self._globs if name.startswith(glob.name[:-1])), None)

    def is_left_out(self, name: str) -> bool:
        """Return whether a metric is to have no summary."""
        definition = self.of(name)
        return definition is not None and "none" in definition.summary

    def summary(
        self,
        metrics: Iterable[tuple[str, Extremes]],
        mean: Callable[[str], float | None],
        first: Callable[[str], float | None],
    ) -> dict[str, Any]:
        """Return the summary of metrics: the last value, or a map of what was asked for.

        mean and first are asked where a definition wants them, since they take reading all points.
        """
        if not self._exact and not self._globs:
            return {name: extremes.last for name, extremes in metrics}
        found: dict[str, Any] = {}
        for name, extremes in metrics:
            definition = self.of(name)
            kinds = definition.summary if definition is not None else ()
            if "none" in kinds:
                continue
            if definition is None or not kinds or "copy" in kinds or kinds == ("last",):
                found[name] = extremes.last
                continue
            values: dict[str, float | None] = {
                "last": extremes.last,
                "min": extremes.min,
                "max": extremes.max,
            }
            values["best"] = extremes.max if definition.maximize else extremes.min
            if "mean" in kinds:
                values["mean"] = mean(name)
            if "first" in kinds:
                values["first"] = first(name)
            found[name] = {kind: values[kind] for kind in kinds if values[kind] is not None}
        return found


def _parse(written: Any) -> Definition | None:
    if not isinstance(written, dict) or not isinstance(written.get("name"), str):
        return None
    given = written.get("summary")
    texts = given if isinstance(given, list) and all(isinstance(each, str) for each in given) else []
    step = written.get("step_metric")
    return Definition(
        name=written["name"],
        summary=tuple(kind for kind in dict.fromkeys(texts) if kind in SUMMARIES),
        maximize=written.get("goal") == "maximize",
        hidden=written.get("hidden") is True,
        step_metric=step if isinstance(step, str) else None,
    )
