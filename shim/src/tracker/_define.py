"""define_metric(): how metrics are shown and summed up.

Definitions are recorded in RUN records (`metrics`); the server goes by them for all processes of a run. Here
they matter for what this process's run.summary shows, and for step_sync, which adds the last known value of
a step metric to rows that lack it. The fast path of log() knows nothing of this: rows of names that need care
are simply not among those it has learnt (Run._recall).
"""

from typing import Any, Dict, Iterable, List, Optional, Set

from ._run_state import RunState

#: What `summary` may name. "best" and "copy" are old names of wandb's.
SUMMARIES = ("min", "max", "mean", "best", "last", "first", "copy", "none")
GOALS = ("minimize", "maximize")
#: More definitions than that are not a description any more.
METRICS_MAX = 1000
#: Names whose definition is remembered.
NAMES_MAX = 100000


class Metric:
    """One definition: of a metric, or of all whose names begin so (a name that ends in "*")."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.step_metric: Optional[str] = None
        self.step_sync = False
        self.hidden = False
        self.summary: List[str] = []
        self.goal: Optional[str] = None

    def update(self, given: Dict[str, Any], overwrite: bool) -> None:
        """Take what is given. Flags that are set stay set, unless the whole is overwritten."""
        if overwrite:
            self.__init__(self.name)  # type: ignore[misc]  # begin again
        if given["step_metric"] is not None:
            self.step_metric = given["step_metric"]
        self.step_sync = self.step_sync or bool(given["step_sync"])
        self.hidden = self.hidden or bool(given["hidden"])
        if given["summary"] is not None:
            self.summary = given["summary"]
        if given["goal"] is not None:
            self.goal = given["goal"]

    def fields(self) -> Dict[str, Any]:
        """Return the definition as a RUN record holds it: without what is not set."""
        found = {"name": self.name, "step_metric": self.step_metric, "goal": self.goal}
        fields: Dict[str, Any] = {name: value for name, value in found.items() if value is not None}
        if self.step_sync:
            fields["step_sync"] = True
        if self.hidden:
            fields["hidden"] = True
        if self.summary:
            fields["summary"] = list(self.summary)
        return fields

    def __repr__(self) -> str:
        return "<metric %s>" % self.fields()


class Definitions:
    """All definitions of a run, and what this process knows of the values they are about."""

    def __init__(self, recorded: Any = None) -> None:
        """recorded: what a RUN record of a former process says."""
        self._metrics: Dict[str, Metric] = {}
        #: What applies to a name, as far as it was asked.
        self._found: Dict[str, Optional[Metric]] = {}
        #: Names that are the step metric of some definition with step_sync, and their last values.
        self._steps: Set[str] = set()
        self._last: Dict[str, Any] = {}
        self._aggregates: Dict[str, "Aggregate"] = {}
        for each in recorded if isinstance(recorded, list) else []:
            if isinstance(each, dict) and isinstance(each.get("name"), str):
                metric = self._metrics[each["name"]] = Metric(each["name"])
                given = {name: each.get(name) for name in ("step_metric", "step_sync", "hidden", "goal")}
                metric.update(dict(given, summary=each.get("summary") or None), overwrite=False)
        self._look_through()

    def define(self, name: str, given: Dict[str, Any], overwrite: bool) -> Metric:
        """Add to the definition of a name or glob."""
        metric = self._metrics.get(name)
        if metric is None:
            metric = self._metrics[name] = Metric(name)
        metric.update(given, overwrite)
        self._look_through()
        return metric

    def _look_through(self) -> None:
        self._found.clear()
        self._steps = {m.step_metric for m in self._metrics.values() if m.step_sync and m.step_metric}

    def fields(self) -> List[Dict[str, Any]]:
        """Return all definitions, as a RUN record holds them."""
        return [metric.fields() for metric in self._metrics.values()]

    def of(self, name: str) -> Optional[Metric]:
        """Return what applies to a metric: its own definition, else the longest glob that fits."""
        if name in self._found:
            return self._found[name]
        found = self._metrics.get(name)
        if found is None:
            fits = [glob for glob in self._metrics if glob.endswith("*") and name.startswith(glob[:-1])]
            found = self._metrics[max(fits, key=len)] if fits else None
        if len(self._found) < NAMES_MAX:
            self._found[name] = found
        return found

    def plain(self, names: Dict[str, Any]) -> bool:
        """Return whether a row of these names needs no care: nothing to add and nothing to sum up."""
        for name in names:
            metric = self.of(name)
            if metric is None:
                continue
            if metric.summary and metric.summary not in (["last"], ["copy"]):
                return False
            step = metric.step_metric
            if metric.step_sync and step and step not in names:
                return False
        return True

    def add_steps(self, names: Iterable[str], numbers: Dict[str, Any]) -> None:
        """Add to the numbers of a row the last values of step metrics that its names lack."""
        missing = set()
        for name in names:
            metric = self.of(name)
            if metric is not None and metric.step_sync and metric.step_metric:
                if metric.step_metric not in numbers and name not in self._steps:
                    missing.add(metric.step_metric)
        for step in missing:
            if step in self._last:
                numbers[step] = self._last[step]

    def saw(self, values: Dict[str, Any]) -> None:
        """Note the last values of step metrics."""
        for step in self._steps:
            if step in values:
                self._last[step] = values[step]

    def sum_up(self, numbers: Dict[str, Any]) -> Dict[str, Any]:
        """Return what the summary is to show for a row."""
        shown: Dict[str, Any] = {}
        for name, value in numbers.items():
            metric = self.of(name)
            kinds = metric.summary if metric is not None else []
            if not kinds or kinds == ["last"] or "copy" in kinds:
                shown[name] = value
            elif "none" not in kinds:
                assert metric is not None
                aggregate = self._aggregates.get(name)
                if aggregate is None:
                    aggregate = self._aggregates[name] = Aggregate()
                aggregate.add(value)
                shown[name] = aggregate.shown(kinds, metric.goal)
        return shown


class Aggregate:
    """Extremes, mean, first, last of one metric. NaN and infinities: first and last only."""

    def __init__(self) -> None:
        self.count = 0
        self.total = 0.0
        self.min: Any = None
        self.max: Any = None
        self.first: Any = None
        self.last: Any = None

    def add(self, value: Any) -> None:
        """Add a value, a number."""
        self.last = value
        if self.first is None:
            self.first = value
        if value - value != 0:  # NaN or infinite, without importing math
            return
        self.count += 1
        self.total += value
        if self.min is None or value < self.min:
            self.min = value
        if self.max is None or value > self.max:
            self.max = value

    def shown(self, kinds: List[str], goal: Optional[str]) -> Dict[str, Any]:
        """Return those that are asked for."""
        mean = self.total / self.count if self.count else None
        best = self.max if goal == "maximize" else self.min
        known = {
            "min": self.min,
            "max": self.max,
            "mean": mean,
            "best": best,
            "first": self.first,
            "last": self.last,
        }
        return {kind: known[kind] for kind in kinds if known.get(kind) is not None}


def define_metric(
    run: RunState,
    name: Any,
    step_metric: Any = None,
    step_sync: Optional[bool] = None,
    hidden: Optional[bool] = None,
    summary: Any = None,
    goal: Any = None,
    overwrite: Optional[bool] = None,
) -> Optional[Metric]:
    """Define a metric, or all whose names begin with what stands before a "*" at the end.

    >>> run.define_metric("loss", summary="min,last")
    <metric {'name': 'loss', 'summary': ['min', 'last']}>
    >>> for loss in (3.0, 1.0, 2.0):
    ...     run.log({"loss": loss})
    >>> run.summary["loss"]
    {'min': 1.0, 'last': 2.0}
    """
    step = getattr(step_metric, "name", step_metric)
    definitions: Definitions = run.definitions if run.definitions is not None else Definitions()
    before = definitions.fields()
    problem = _problem(name, step, before)
    if problem:
        run.terminal.warn("define_metric " + problem, problem)
        return None
    if goal is not None and goal not in GOALS:
        run.terminal.warn("define_metric goal", "goal is minimize or maximize, not %r; ignored" % (goal,))
        goal = None
    kinds = _kinds(run, summary)
    if step is not None and step_sync is None:
        step_sync = True  # a metric drawn over another one needs its values, as wandb has it, too
    given = {"step_metric": step, "step_sync": step_sync, "hidden": hidden, "summary": kinds, "goal": goal}
    metric = definitions.define(name, given, bool(overwrite))
    run.use_definitions(definitions)
    if definitions.fields() != before:
        run.record_fields({"metrics": definitions.fields()})
    return metric


def _problem(name: Any, step: Any, defined: List[Dict[str, Any]]) -> str:
    """Return why there can be no such definition, "" where there can."""
    if not isinstance(name, str) or not name:
        return "define_metric() takes a name, not %r" % (name,)
    if "*" in name[:-1]:
        return "define_metric(%r): a * stands at the end of a name only" % name
    if step is not None and not isinstance(step, str):
        return "define_metric(%r): step_metric is a name, not %r" % (name, step)
    if len(defined) >= METRICS_MAX and name not in [each["name"] for each in defined]:
        return "define_metric(): more than %d definitions; ignored" % METRICS_MAX
    return ""


def _kinds(run: RunState, summary: Any) -> Optional[List[str]]:
    if summary is None:
        return None
    names = summary.split(",") if isinstance(summary, str) else [str(each) for each in summary]
    names = [name.strip().lower() for name in names if name.strip()]
    wrong = [name for name in names if name not in SUMMARIES]
    if wrong:
        run.terminal.warn(
            "define_metric summary",
            "summary is made of %s, not %s; ignored" % (", ".join(SUMMARIES), ", ".join(wrong)),
        )
    known = [name for name in names if name in SUMMARIES]
    return known or None
