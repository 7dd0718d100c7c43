"""What Run shows of itself in notebooks, and the small calls that only note something."""

from typing import Any

from ._run_state import RunState
from ._values import to_plain


class Status:
    """How far a process is with handing over what it recorded: always done, since files are the queue."""

    def __init__(self) -> None:
        self.sync_items_total = 0
        self.sync_items_pending = 0
        self.sync_time = None

    def __repr__(self) -> str:
        return "<nothing waits in this process: records are in its files when log() returns>"


def status(run: RunState) -> Status:  # noqa: ARG001 - the same for all runs
    """Return what wandb's scripts ask for before they end."""
    return Status()


def mark_preempting(run: RunState) -> None:
    """Record that the scheduler is about to end this process."""
    run.record_fields({"preempting": True})


def pin_config_keys(run: RunState, keys: Any) -> None:
    """Record which settings the pages of the run show first."""
    given = to_plain(keys)
    run.record_fields(
        {"pinned_config": [str(key) for key in (given if isinstance(given, list) else [given])]}
    )


def to_html(run: RunState, height: int = 420, hidden: bool = False) -> str:
    """Return a frame with the run's page; a link too, for notebooks that show no frames."""
    if not run.url:
        return "<p>%s: %s</p>" % (_escape(run.name), _escape(run.directory))
    url = _escape(run.url)
    return '<div style="%s"><a href="%s">%s</a><iframe src="%s" width="100%%" height="%d"></iframe></div>' % (
        "display:none" if hidden else "",
        url,
        _escape(run.name),
        url,
        int(height),
    )


def display(run: RunState, height: int = 420, hidden: bool = False) -> bool:
    """Show the run's page in the notebook this runs in; return False where it is none."""
    import sys

    module: Any = sys.modules.get("IPython.display")
    if module is None or "ipykernel" not in sys.modules:
        return False
    module.display(module.HTML(to_html(run, height, hidden)))
    return True


def _escape(text: str) -> str:
    import html

    return html.escape(text, quote=True)
