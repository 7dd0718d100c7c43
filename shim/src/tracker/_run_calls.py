"""RunCalls: what a run can do besides log(), each call handed to the module that does it.

Those modules are loaded at the first use. What they raise is said once and goes no further, but for
calls whose result the training cannot do without (use_artifact, use_model): their Error says why.
"""

import os

from . import _loading
from ._run_facts import RunFacts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, List, Optional


#: Calls whose result a training cannot do without.
_FETCHES = ("use_artifact", "use_model", "restore")


class RunCalls(RunFacts):
    """A run's files, artifacts, watched models, metric definitions, messages and display."""

    def _hand(
        self, module: str, call: str, arguments: "Any", otherwise: "Any" = None, **more: "Any"
    ) -> "Any":
        """Call tracker.<module>.<call>(run, ...); return `otherwise` where that cannot be done."""
        # What the training needs is fetched whatever becomes of the records.
        if self._disabled and call not in _FETCHES:
            return otherwise
        try:
            if self._finished and call not in _FETCHES:
                self._warn("finished", "%s() after finish(): nothing is done" % call)
                return otherwise
            return getattr(_loading.load(module), call)(self, *arguments, **more)
        except Exception as error:  # the guard
            if call in _FETCHES and _is_ours(error):
                raise
            self._guard(call, error)
            return otherwise

    def _hand_artifact(self, call: str, given: "Any", name: "Any", kind: "Any", *arguments: "Any") -> "Any":
        """Return an artifact in any case: scripts go on with what they get."""
        found = self._hand("_artifacts", call, (given, name, kind) + arguments)
        if found is not None:
            return found
        try:
            with _loading.lock:
                from ._artifacts import Artifact

            return Artifact(str(name or os.path.basename(os.fsdecode(given))), str(kind or "unspecified"))
        except Exception:  # noqa: BLE001 - no path: an Artifact, or what was warned of already
            return given

    # Files

    def save(
        self,
        glob_str: "Any" = None,
        base_path: "Any" = None,
        policy: str = "live",
        glob: bool = True,
        block: bool = False,
    ) -> "List[str]":
        """Keep files with the run; return where they lie in its directory (docs/files.md).

        policy: "live" copies again whenever a file changes, "now" once, "end" when the run ends.
        block: return when the copies are made, so that the originals may go.
        """
        found = self._hand("_files", "save", (glob_str, base_path, policy), [], glob=glob, block=block)
        return [] if found is None else found

    def restore(
        self, name: str, run_path: "Optional[str]" = None, replace: bool = False, root: "Optional[str]" = None
    ) -> "Any":
        """Return an open file that was kept with a run, fetched into root; None where there is none."""
        return self._hand("_files", "restore", (name, run_path, replace, root))

    def log_code(
        self,
        root: "Optional[str]" = ".",
        name: "Optional[str]" = None,
        include_fn: "Optional[Callable[..., bool]]" = None,
        exclude_fn: "Optional[Callable[..., bool]]" = None,
    ) -> "Any":
        """Keep the source files below root as an artifact."""
        return self._hand("_artifacts", "log_code", (root, name, include_fn, exclude_fn))

    # Artifacts

    def log_artifact(
        self,
        artifact_or_path: "Any",
        name: "Optional[str]" = None,
        type: "Optional[str]" = None,  # noqa: A002 - the name that scripts use
        aliases: "Optional[List[str]]" = None,
        tags: "Optional[List[str]]" = None,
    ) -> "Any":
        """Keep an Artifact, a file or a directory as a version of an artifact; return the artifact."""
        return self._hand_artifact("log_artifact", artifact_or_path, name, type, aliases, tags)

    def use_artifact(
        self,
        artifact_or_name: "Any",
        type: "Optional[str]" = None,  # noqa: A002
        aliases: "Optional[List[str]]" = None,
        use_as: "Optional[str]" = None,
    ) -> "Any":
        """Return an artifact by name and version, and note that the run uses it. Raise Error if not found."""
        if self._disabled and not isinstance(artifact_or_name, str):
            return artifact_or_name
        return self._hand("_artifacts", "use_artifact", (artifact_or_name, type, aliases, use_as))

    def upsert_artifact(
        self,
        artifact_or_path: "Any",
        name: "Optional[str]" = None,
        type: "Optional[str]" = None,  # noqa: A002
        aliases: "Optional[List[str]]" = None,
        distributed_id: "Optional[str]" = None,
    ) -> "Any":
        """Add to a version of an artifact that several runs make together."""
        return self._hand_artifact("upsert_artifact", artifact_or_path, name, type, aliases, distributed_id)

    def finish_artifact(
        self,
        artifact_or_path: "Any",
        name: "Optional[str]" = None,
        type: "Optional[str]" = None,  # noqa: A002
        aliases: "Optional[List[str]]" = None,
        distributed_id: "Optional[str]" = None,
    ) -> "Any":
        """End a version begun with upsert_artifact()."""
        return self._hand_artifact("finish_artifact", artifact_or_path, name, type, aliases, distributed_id)

    def link_artifact(
        self, artifact: "Any", target_path: str, aliases: "Optional[List[str]]" = None
    ) -> "Any":
        """Note that an artifact belongs to a collection."""
        return self._hand("_artifacts", "link_artifact", (artifact, target_path, aliases), artifact)

    def log_model(
        self, path: "Any", name: "Optional[str]" = None, aliases: "Optional[List[str]]" = None
    ) -> "Any":
        """Keep a model's file or directory as an artifact of the type "model"."""
        return self._hand("_artifacts", "log_model", (path, name, aliases))

    def use_model(self, name: str) -> "Any":
        """Return the path of a model's files. Raise Error where there is no such model."""
        return self._hand("_artifacts", "use_model", (name,))

    def link_model(
        self,
        path: "Any",
        registered_model_name: str,
        name: "Optional[str]" = None,
        aliases: "Optional[List[str]]" = None,
    ) -> "Any":
        """Keep a model as log_model() does, and note that it belongs to a registered model."""
        return self._hand("_artifacts", "link_model", (path, registered_model_name, name, aliases))

    # Models, metrics, console

    def watch(
        self,
        models: "Any",
        criterion: "Any" = None,
        log: "Optional[str]" = "gradients",
        log_freq: int = 1000,
        idx: "Optional[int]" = None,
        log_graph: bool = False,
    ) -> "Any":
        """Record histograms of a PyTorch model's gradients, parameters or both ("all")."""
        return self._hand("_watch", "watch", (models, criterion, log, log_freq, idx, log_graph))

    def unwatch(self, models: "Any" = None) -> None:
        """Undo watch(), for all models by default."""
        self._hand("_watch", "unwatch", (models,))

    def define_metric(
        self,
        name: str,
        step_metric: "Any" = None,
        step_sync: "Optional[bool]" = None,
        hidden: "Optional[bool]" = None,
        summary: "Optional[str]" = None,
        goal: "Optional[str]" = None,
        overwrite: "Optional[bool]" = None,
    ) -> "Any":
        """Say how a metric is to be shown and summed up (docs/shim.md).

        >>> run.define_metric("val/*", step_metric="epoch")
        <metric {'name': 'val/*', 'step_metric': 'epoch', 'step_sync': True}>
        >>> run.log({"epoch": 3})
        >>> run.log({"val/loss": 0.5})  # recorded with epoch 3
        """
        return self._hand(
            "_define",
            "define_metric",
            (name, step_metric, step_sync, hidden, summary, goal, overwrite),
        )

    def write_logs(self, text: str) -> None:
        """Add text to the run's console output without showing it."""
        self._hand("_console", "write_logs", (text,))

    # Messages and display

    def alert(self, title: str, text: str, level: "Any" = None, wait_duration: "Any" = None) -> None:
        """Tell people something: title and text, with a level of AlertLevel.

        wait_duration: seconds (or a timedelta) within which an alert of the same title is not repeated.

        >>> run.alert("Loss is NaN", "at step 400", level=tracker.AlertLevel.ERROR, wait_duration=600)
        """
        self._hand("_alert", "alert", (title, text, level, wait_duration))

    def mark_preempting(self) -> None:
        """Note that the scheduler is about to end this process, so that its end is no surprise."""
        self._hand("_show", "mark_preempting", ())

    def status(self) -> "Any":
        """Return how far this process is: nothing waits in it, so there is nothing to wait for."""
        return _loading.load("_show").status(self)

    def display(self, height: int = 420, hidden: bool = False) -> bool:
        """Show the run's page in a notebook; return whether that was possible."""
        return bool(self._hand("_show", "display", (height, hidden), False))

    def to_html(self, height: int = 420, hidden: bool = False) -> str:
        """Return HTML that shows the run's page."""
        return str(self._hand("_show", "to_html", (height, hidden), ""))

    def _repr_html_(self) -> "Optional[str]":
        return self.to_html() or None if self._url else None

    def pin_config_keys(self, keys: "Any") -> None:
        """Name the settings that pages of the run show first."""
        self._hand("_show", "pin_config_keys", (keys,))


def _is_ours(error: Exception) -> bool:
    with _loading.lock:
        from ._errors import Error

    return isinstance(error, Error)
