"""init() and this process's current run.

The one place with module-level state, because `tracker.log()` has no other way to find its run.
All that a bare `import tracker` loads is this and what it imports at its top, without `typing`,
`re` and the like (annotations are quoted): 3 ms instead of 20. init() loads the rest.
"""

import atexit
import sys

from . import _loading
from ._config import Config
from ._ending import RECURSION_MUST_SHOW, ExitWatch
from ._no_run import NoRun
from ._summary import Summary
from ._terminal import Terminal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List, Optional, Tuple

    from ._run import Run

_current: "Optional[Run]" = None
_terminal = Terminal()
_exit_watch = ExitWatch()
#: Runs besides the current one, that came here pickled or were made beside it: they end with the process.
_others: "List[Run]" = []

#: Set by the distribution that provides a module `wandb`: WANDB_* variables and wandb's defaults count.
wandb_names = False
#: The modules whose `run`, `config` and `summary` show the current run.
public_modules = ["tracker"]


def init(  # noqa: PLR0913, PLR0917 - the signature that scripts know
    entity: "Optional[str]" = None,
    project: "Optional[str]" = None,
    dir: "Any" = None,  # noqa: A002 - the name that scripts use
    id: "Optional[str]" = None,  # noqa: A002
    name: "Optional[str]" = None,
    notes: "Optional[str]" = None,
    tags: "Any" = None,
    config: "Any" = None,
    config_exclude_keys: "Any" = None,
    config_include_keys: "Any" = None,
    allow_val_change: "Optional[bool]" = None,
    group: "Optional[str]" = None,
    job_type: "Optional[str]" = None,
    mode: "Optional[str]" = None,
    force: "Optional[bool]" = None,
    reinit: "Any" = None,
    resume: "Any" = None,
    resume_from: "Optional[str]" = None,
    fork_from: "Optional[str]" = None,
    save_code: "Optional[bool]" = None,
    tensorboard: "Optional[bool]" = None,
    sync_tensorboard: "Optional[bool]" = None,
    monitor_gym: "Optional[bool]" = None,
    settings: "Any" = None,
    anonymous: "Any" = None,
    allow_stop: "Optional[bool]" = None,
    **unknown: "Any",
) -> "Run":
    """Begin a run and return it; a run that is still open in this process ends, unless reinit says else.

    Whatever is wrong is said once on the terminal; nothing is raised. Each argument stands before
    its TRACKER_* variable (docs/shim.md).

    >>> run = tracker.init(project="digits", config={"lr": 0.1}, tags=["first"])
    >>> tracker.config.lr, tracker.run.tags, tracker.run is run
    (0.1, ('first',), True)
    """
    arguments = dict(locals())
    del arguments["unknown"]
    try:
        with _loading.lock:
            from . import _start

            wishes = _start.Wishes(arguments, unknown, wandb_names or _called_as_wandb())
        already_open = open_runs()
        if already_open and wishes.reinit == "return_previous":
            _terminal.warn("reinit", "a run is open: init() returns it; see `reinit` in docs/shim.md")
            return already_open[-1]
        if wishes.reinit != "create_new":
            for each in already_open:
                each.finish()
        with _loading.lock:  # which loads this and that
            run = _start.begin(wishes, _terminal, _withdraw)
            if not run.disabled:
                _exit_watch.install()
    except Exception as error:  # noqa: BLE001 - the guard: whatever it is, training goes on
        return _publish(_run_that_failed("init", error, config))
    if wishes.reinit == "create_new":
        _others.append(run)
        return run
    return _publish(run)


def _called_as_wandb() -> bool:
    """Return whether the caller of init() knows this package by the name wandb."""
    frame = sys._getframe(2)  # noqa: SLF001 - the caller of init()
    module = sys.modules.get("tracker")
    return module is not None and any(
        names.get("wandb") is module for names in (frame.f_globals, frame.f_locals)
    )


def log(
    data: "Dict[str, Any]",
    step: "Optional[int]" = None,
    commit: "Optional[bool]" = None,
    sync: "Optional[bool]" = None,  # noqa: ARG001 - known from old scripts, without effect
) -> None:
    """Record values in the current run (see Run.log)."""
    run = _current
    if run is None:
        _terminal.warn("log", "log() before init(): this is not recorded; call tracker.init() first")
    else:
        try:
            run.log(data, step, commit)
        except RecursionError:
            if RECURSION_MUST_SHOW:
                raise
            run._recorder.lost += 1  # noqa: SLF001 - no stack left for the call itself


def finish(exit_code: "Optional[int]" = None, quiet: "Optional[bool]" = None) -> None:
    """End the current run (see Run.finish)."""
    run = _current
    if run is not None:
        run.finish(exit_code, quiet)


def current() -> "Optional[Run]":
    """Return the current run, finished or not."""
    return _current


def open_runs() -> "List[Run]":
    """Return the runs of this process that have not ended, the current one last."""
    return [run for run in _others + [_current] if run is not None and not run.finished]


def terminal() -> Terminal:
    """Return what this process writes to the user with."""
    return _terminal


def attach(
    place: "Tuple[Any, ...]",
    fields: "Dict[str, Any]",
    url: "Optional[str]",
    disabled: bool,
    step: int,
    known: "Dict[str, Any]",
) -> "Run":
    """Return a run that was pickled into this process; make it the current one where there is none.

    known: its config, and whether `dir` is that of its files.
    """
    try:
        with _loading.lock:
            from . import _start

            if not disabled:
                _exit_watch.install()
        run = _start.attached_run(place, fields, url, disabled, step, known["config"], _terminal, _withdraw)
        if known["files"]:
            run.use_files_directory()
    except Exception as error:  # noqa: BLE001 - the guard
        run = _run_that_failed("attach", error, known["config"])
        disabled = True
    if not disabled:
        _others.append(run)
    return _publish(run) if _current is None else run


def _run_that_failed(what: str, error: Exception, config: "Any") -> "Run":
    """Return a run that records nothing, having said why."""
    _terminal.warn(what, "%s() failed, nothing is recorded: %s: %s" % (what, type(error).__name__, error))
    try:
        with _loading.lock:
            from . import _start

        return _start.disabled_run({"project": "", "name": ""}, _terminal, _withdraw, None, config)
    except Exception:  # noqa: BLE001 - no descriptor to load it by, or no memory
        return NoRun(Config(_terminal, None, config), Summary(_terminal))  # type: ignore[return-value]


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
    for name in public_modules:
        public = sys.modules.get(name)
        if public is not None:
            public.run = run  # type: ignore[attr-defined]
            public.config = run.config  # type: ignore[attr-defined]
            public.summary = run.summary  # type: ignore[attr-defined]
    return run


def _withdraw(run: "Run") -> None:
    """Take a run that ended from public view: tracker.run is None between runs."""
    if run in _others:
        _others.remove(run)
    for name in public_modules:
        public = sys.modules.get(name)
        if public is not None and getattr(public, "run", None) is run:
            public.run = None  # type: ignore[attr-defined]


def at_exit(*runs: "Run") -> None:
    """End what is still open, with the code and exception the process ends with."""
    try:
        end = _exit_watch.end()
        for run in runs or open_runs():
            run.end(end)
    except Exception as error:  # noqa: BLE001 - the guard
        _terminal.warn("exit", "recording the end failed: %s: %s" % (type(error).__name__, error))


# Registered before anything a script may register, so that it runs after all of that.
atexit.register(at_exit)
