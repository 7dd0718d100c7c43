"""init() and the module-level functions: this process's current run.

The one place with module-level state, because `tracker.log()` has no other way to find its run.
All that a bare `import tracker` loads is this and what it imports at its top, without `typing`,
`re` and the like (annotations are quoted): 3 ms instead of 20. init() loads the rest.
"""

import atexit
import sys

from ._config import Config
from ._ending import ExitWatch
from ._summary import Summary
from ._terminal import Terminal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List, Optional, Tuple

    from ._run import Run

_current: "Optional[Run]" = None
_terminal = Terminal()
_exit_watch = ExitWatch()
#: Runs that came here pickled: they end with the process too.
_attached: "List[Run]" = []


def init(  # noqa: PLR0913, PLR0917 - the signature that scripts know
    project: "Optional[str]" = None,
    name: "Optional[str]" = None,
    notes: "Optional[str]" = None,
    tags: "Any" = None,
    group: "Optional[str]" = None,
    job_type: "Optional[str]" = None,
    config: "Any" = None,
    id: "Optional[str]" = None,  # noqa: A002 - the name that scripts use
    mode: "Optional[str]" = None,
    dir: "Any" = None,  # noqa: A002 - the name that scripts use
    entity: "Optional[str]" = None,
    allow_stop: "Optional[bool]" = None,
    resume: "Any" = None,  # noqa: ARG001 - accepted, without effect so far
    **unknown: "Any",
) -> "Run":
    """Begin a run and return it; a run that is still open in this process ends.

    Whatever is wrong is said once on the terminal; nothing is raised. Each argument stands before
    its TRACKER_* variable (docs/shim.md).
    """
    from . import _start

    arguments = {
        "project": project,
        "name": name,
        "notes": notes,
        "tags": tags,
        "group": group,
        "job_type": job_type,
        "id": id,
        "mode": mode,
        "dir": dir,
        "entity": entity,
        "allow_stop": allow_stop,
    }
    try:
        if _current is not None:
            _current.finish()
        run = _start.begin(arguments, config, unknown, _terminal, _withdraw)
    except Exception as error:  # noqa: BLE001 - the guard: whatever it is, training goes on
        _terminal.warn("init", "init() failed, nothing is recorded: %s: %s" % (type(error).__name__, error))
        run = _start.disabled_run({"project": "", "name": ""}, _terminal, _withdraw)
    if not run.disabled:
        _exit_watch.install()
    return _publish(run)


def log(data: "Dict[str, Any]", step: "Optional[int]" = None, commit: "Optional[bool]" = None) -> None:
    """Record values in the current run (see Run.log)."""
    run = _current
    if run is None:
        _terminal.warn("log", "log() before init(): this is not recorded; call tracker.init() first")
    else:
        run.log(data, step, commit)


def finish(exit_code: "Optional[int]" = None, quiet: "Optional[bool]" = None) -> None:
    """End the current run (see Run.finish)."""
    run = _current
    if run is not None:
        run.finish(exit_code, quiet)


def attach(
    place: "Tuple[Any, ...]", fields: "Dict[str, Any]", url: "Optional[str]", disabled: bool, step: int
) -> "Run":
    """Return a run that was pickled into this process; make it the current one where there is none."""
    from . import _start

    run = _start.attached_run(place, fields, url, disabled, step, _terminal, _withdraw)
    if not disabled:
        _exit_watch.install()
        _attached.append(run)
    return _publish(run) if _current is None else run


def config_without_run() -> Config:
    """Return what tracker.config is before init(): it holds values, and says that nobody records them."""
    return Config(_terminal, _no_run)


def summary_without_run() -> Summary:
    """Return what tracker.summary is before init()."""
    return Summary(_terminal, _no_run)


def _no_run(values: "Dict[str, Any]", removed: "List[str]") -> None:  # noqa: ARG001 - a RecordPatch
    _terminal.warn("no-run", "set before init(): this is not recorded; call tracker.init() first")


def _publish(run: "Run") -> "Run":
    """Make run the current one: what tracker.run, tracker.config and tracker.summary show."""
    global _current
    _current = run
    public = sys.modules.get("tracker")
    if public is not None:
        public.run = run  # type: ignore[attr-defined]
        public.config = run.config  # type: ignore[attr-defined]
        public.summary = run.summary  # type: ignore[attr-defined]
    return run


def _withdraw(run: "Run") -> None:
    """Take a run that ended from public view: tracker.run is None between runs."""
    public = sys.modules.get("tracker")
    if public is not None and getattr(public, "run", None) is run:
        public.run = None  # type: ignore[attr-defined]


def at_exit(*runs: "Run") -> None:
    """End what is still open, with the code and exception the process ends with."""
    try:
        end = _exit_watch.end()
        for run in runs or [run for run in [_current] + _attached if run is not None]:
            run.end(end)
    except Exception as error:  # noqa: BLE001 - the guard
        _terminal.warn("exit", "recording the end failed: %s: %s" % (type(error).__name__, error))


# Registered before anything a script may register, so that it runs after all of that.
atexit.register(at_exit)
