"""attach(): takes up a run in a process it was handed to by its `_attach_id`, as frameworks that spawn do.

The id is a text that holds what a pickled run does: where its files lie and what it is called.
"""

import base64
from typing import Any, Optional

import msgpack

from . import _session
from ._run import Run

_PREFIX = "tracker-"


def attach_id(run: Run) -> str:
    """Return the text by which another process of this user takes up a run."""
    _, state = run.__reduce__()
    packed = msgpack.packb(state, use_bin_type=True, unicode_errors="surrogatepass")
    return _PREFIX + base64.urlsafe_b64encode(packed).decode("ascii")


def attach(
    attach_id: Optional[str] = None,
    run_id: Optional[str] = None,
    *,
    run: Optional[Run] = None,
    **unknown: Any,  # noqa: ARG001 - known from scripts, without effect
) -> Optional[Run]:
    """Return the run of an `_attach_id`, or the open one of that run id; None where there is none."""
    if run is not None:
        return run
    if not isinstance(attach_id, (str, type(None))) or not isinstance(run_id, (str, type(None))):
        _session.terminal().warn("attach", "attach() takes the `_attach_id` of a run, or a run's id")
        return None
    current = _session.current()
    if current is not None and not current.finished:
        if run_id in (None, current.id) and attach_id in (None, current._attach_id):  # noqa: SLF001
            return current
    if attach_id is not None:
        try:
            if not attach_id.startswith(_PREFIX):
                raise ValueError("it is not one of a run of this package")
            packed = base64.urlsafe_b64decode(attach_id[len(_PREFIX) :].encode("ascii"))
            state = msgpack.unpackb(packed, raw=False, unicode_errors="surrogatepass")
            return _session.attach(*state)
        except Exception as error:  # noqa: BLE001 - the guard
            _session.terminal().warn("attach", "attach() cannot use that id: %s" % error)
            return None
    _session.terminal().warn("attach", "attach(): no run of that id is open in this process")
    return None


_attach = attach
