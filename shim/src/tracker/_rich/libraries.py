"""The one door to libraries of the training's environment: NumPy, PIL, matplotlib and whatever else is there.

Nothing of them is needed to import the shim or to log numbers.
"""

import importlib
from typing import Any

from .. import _loading
from .._values import UnsupportedError


def needed(module: str, what: str) -> Any:
    """Return a module, imported now if it must be. Raise UnsupportedError saying what it is needed for."""
    try:
        with _loading.lock:
            return importlib.import_module(module)
    except Exception as error:  # a broken installation raises anything
        package = {"PIL": "pillow"}.get(module.partition(".")[0], module.partition(".")[0])
        raise UnsupportedError(
            "%s needs %s here, which cannot be imported (%s: %s)"
            % (what, package, type(error).__name__, error)
        ) from error


def comes_from(value: Any, library: str) -> bool:
    """Return whether an object's class, or one that it is made from, is defined in a library."""
    return any(
        str(getattr(kind, "__module__", "")).partition(".")[0] == library for kind in type(value).__mro__
    )
