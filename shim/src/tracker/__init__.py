"""Track a training run: records go to files in microseconds, the agent ships them.

    import tracker

    tracker.init(project="digits", config={"lr": 0.1})
    for step in range(100):
        tracker.log({"loss": 1 / (step + 1)})
    tracker.finish()

Nothing here raises into a training, touches the network or starts a thread (docs/shim.md).
"""

from . import _version
from ._config import Config
from ._session import config_without_run, finish, init, log, summary_without_run
from ._summary import Summary

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Optional

    from ._run import Run

__version__ = _version.VERSION

#: The current run, its settings and its summary; replaced by init().
run: "Optional[Run]" = None
config = config_without_run()
summary = summary_without_run()

__all__ = ["Config", "Run", "Summary", "__version__", "config", "finish", "init", "log", "run", "summary"]


def __getattr__(name: str) -> "Any":
    # Run needs what only init() loads. (Python 3.6 has no such hook: there tracker.Run appears
    # with the first `from tracker._run import Run`.)
    if name == "Run":
        from ._run import Run

        return Run
    raise AttributeError("module 'tracker' has no attribute %r" % name)
