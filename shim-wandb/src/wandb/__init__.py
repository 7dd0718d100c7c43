"""The module wandb, provided by Tracker: for libraries that say `import wandb` themselves (docs/wandb.md).

Everything here is tracker's own, looked up at each use: wandb.run, wandb.config and wandb.summary are
always those of the current run. The submodules have wandb's names and hold what other libraries were seen
to take from them.
"""

import importlib
import os

import tracker
from tracker import _session

from ._version import VERSION as __version__

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, List

#: WANDB_* variables count, as they do for a script that says `import tracker as wandb`.
_session.wandb_names = True

#: Submodules that wandb.<name> loads.
_SUBMODULES = frozenset(
    [
        "apis",
        "data_types",
        "env",
        "errors",
        "integration",
        "keras",
        "lightgbm",
        "plot",
        "sb3",
        "sdk",
        "sklearn",
        "util",
        "wandb_run",
        "xgboost",
    ]
)

__all__ = [
    "AlertLevel",
    "Api",
    "Artifact",
    "Audio",
    "CommError",
    "Error",
    "Histogram",
    "Html",
    "Image",
    "Molecule",
    "Object3D",
    "Plotly",
    "Run",
    "Settings",
    "Table",
    "UsageError",
    "Video",
    "__version__",
    "alert",
    "config",
    "define_metric",
    "finish",
    "init",
    "link_model",
    "log",
    "log_artifact",
    "log_model",
    "login",
    "plot",
    "require",
    "restore",
    "run",
    "save",
    "setup",
    "summary",
    "teardown",
    "termerror",
    "termlog",
    "termsetup",
    "termwarn",
    "unwatch",
    "use_artifact",
    "use_model",
    "watch",
]


def __getattr__(name: str) -> "Any":
    if name in _SUBMODULES:
        return importlib.import_module("wandb." + name)
    if not name.startswith("__"):
        try:
            return getattr(tracker, name)
        except AttributeError:
            pass
    raise AttributeError(
        "module 'wandb' has no attribute %r (this is the one of tracker-wandb, see docs/wandb.md)" % name
    )


def __dir__() -> "List[str]":
    return sorted({*__all__, *_SUBMODULES, *globals(), *dir(tracker)})


def _warn_of_two_clients() -> None:
    """Say so where the real client was installed first: pip puts one's files over the other's unasked."""
    site = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    try:
        found = [name for name in os.listdir(site) if name.startswith("wandb-") and "+tracker" not in name]
    except OSError:
        return
    if any(name.endswith((".dist-info", ".egg-info")) for name in found):
        tracker.termwarn(
            "both wandb and tracker-wandb are installed, and their files are mixed. Runs are recorded by "
            "Tracker. To have only that: pip uninstall --yes wandb tracker-wandb, then install tracker-wandb"
        )


_warn_of_two_clients()
