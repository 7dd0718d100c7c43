"""The functions of the module that pass a call on to the current run, such as tracker.save().

Their signatures are those of Run's methods of the same names (_run_calls.py; for type checkers __init__.pyi).
"""

from . import _loading, _session
from ._values import to_plain

TYPE_CHECKING = False
if TYPE_CHECKING:  # `typing` would cost `import tracker` 5 ms
    from typing import Any, Callable

#: Run's methods that are functions of the module, too.
CALLS = (
    "save",
    "log_code",
    "log_artifact",
    "use_artifact",
    "upsert_artifact",
    "finish_artifact",
    "link_artifact",
    "log_model",
    "use_model",
    "link_model",
    "watch",
    "unwatch",
    "define_metric",
    "write_logs",
    "alert",
    "mark_preempting",
    "pin_config_keys",
)


def of_current_run(name: str) -> "Callable[..., Any]":
    """Return a function that calls a method of the current run, and says so where there is none."""

    def call(*arguments: "Any", **more: "Any") -> "Any":
        run = _session.current()
        if run is None:
            _session.terminal().warn(
                name, "%s() before init(): nothing is done; call tracker.init() first" % name
            )
            return None
        return getattr(run, name)(*arguments, **more)

    call.__name__ = call.__qualname__ = name
    call.__doc__ = "Do for the current run what Run.%s does." % name
    return call


def restore(*arguments: "Any", **more: "Any") -> "Any":
    """Return an open file that was kept with a run (see Run.restore); works without a run of one's own."""
    run = _session.current()
    if run is not None and not run.finished:
        return run.restore(*arguments, **more)
    try:
        return _loading.load("_files").restore(None, *arguments, **more)
    except Exception as error:  # noqa: BLE001 - the guard
        _session.terminal().warn("restore", "restore failed: %s: %s" % (type(error).__name__, error))
        return None


def login(*arguments: "Any", **more: "Any") -> bool:
    """Keep an API key for this machine's agent (see _sign_in.py); return whether there is one."""
    return bool(_loading.load("_sign_in").login(*arguments, **more))


def setup(settings: "Any" = None) -> None:
    """Do nothing: init() needs no preparation."""


def teardown(exit_code: "Any" = None) -> None:
    """End the current run."""
    _session.finish(exit_code)


def require(requirement: "Any" = None, experiment: "Any" = None) -> None:
    """Do nothing: whatever is asked for, there is only one way here."""


def termsetup(settings: "Any" = None, logger: "Any" = None) -> None:
    """Do nothing: the terminal needs no preparation."""


def termlog(string: str = "", newline: bool = True, repeat: bool = True, prefix: bool = True) -> None:  # noqa: ARG001
    """Write a line to the terminal; repeat=False: once for each text."""
    _say("", string, repeat)


def termwarn(string: str, newline: bool = True, repeat: bool = True, prefix: bool = True) -> None:  # noqa: ARG001
    """Write a warning to the terminal."""
    _say("warning: ", string, repeat)


def termerror(string: str, newline: bool = True, repeat: bool = True, prefix: bool = True) -> None:  # noqa: ARG001
    """Write an error to the terminal."""
    _say("error: ", string, repeat)


_said = set()  # type: ignore[var-annotated]  # texts that are not to be repeated
_SAID_MAX = 1000


def _say(level: str, given: "Any", repeat: bool) -> None:
    text = given if type(given) is str else str(to_plain(given))
    if not repeat:
        if text in _said or len(_said) >= _SAID_MAX:
            return
        _said.add(text)
    _session.terminal().say("%s%s" % (level, text))
