"""Track a training run: records go to files in microseconds, the agent ships them.

    import tracker

    tracker.init(project="digits", config={"lr": 0.1})
    for step in range(100):
        tracker.log({"loss": 1 / (step + 1)})
    tracker.finish()

Nothing here raises into a training, touches the network or starts a thread (docs/shim.md). What is public
is listed with its types in __init__.pyi.
"""

import sys

from . import _loading, _module_calls, _version
from ._config import Config
from ._module_calls import (
    login,
    require,
    restore,
    setup,
    teardown,
    termerror,
    termlog,
    termsetup,
    termwarn,
)
from ._session import config_without_run, finish, init, log, summary_without_run
from ._summary import Summary

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, List, Optional

    from ._run import Run

__version__ = _version.VERSION

#: The current run, its settings and its summary; replaced by init().
run: "Optional[Run]" = None
config = config_without_run()
summary = summary_without_run()

for _name in _module_calls.CALLS:
    globals()[_name] = _module_calls.of_current_run(_name)

#: Where names are found that few scripts use: loaded when they are asked for.
_PUBLIC = {
    "Run": "_run",
    "Settings": "_public_settings",
    "AlertLevel": "_errors",
    "Error": "_errors",
    "CommError": "_errors",
    "UsageError": "_errors",
    "ConfigError": "_errors",
    "Artifact": "_artifacts",
    "Api": "_api",
    "sweep": "_absent",
    "agent": "_absent",
    "controller": "_absent",
    "plot_table": "plot",
    "attach": "_handover",
    "_attach": "_handover",
    "Audio": "_rich",
    "Bokeh": "_rich",
    "Chart": "_rich",
    "Classes": "_rich",
    "Histogram": "_rich",
    "Html": "_rich",
    "Image": "_rich",
    "JoinedTable": "_rich",
    "Molecule": "_rich",
    "Object3D": "_rich",
    "Plotly": "_rich",
    "Table": "_rich",
    "Video": "_rich",
    "box3d": "_rich",
}
_MODULES = ("plot",)
#: Other packages that wandb has changed: none here.
patched = {}  # type: ignore[var-annotated]

__all__ = [
    "Config", "Run", "Summary", "__version__", "config", "finish", "init", "log", "login", "require",
    "restore", "run", "setup", "summary", "teardown", "termerror", "termlog", "termsetup", "termwarn",
]  # fmt: skip
__all__ += list(_module_calls.CALLS)


def __getattr__(name: str) -> "Any":
    if name in _MODULES:
        return _loading.load(name)
    if name not in _PUBLIC:
        raise AttributeError("module 'tracker' has no attribute %r" % name)
    found = getattr(_loading.load(_PUBLIC[name]), name)
    globals()[name] = found
    return found


def __dir__() -> "List[str]":
    return sorted(set(globals()).union(_PUBLIC, _MODULES))


if sys.version_info < (3, 7):  # which has no such hook of modules

    class _Module(type(sys)):
        def __getattr__(self, name):
            return __getattr__(name)

    sys.modules[__name__].__class__ = _Module
