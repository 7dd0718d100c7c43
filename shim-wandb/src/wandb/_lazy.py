"""What packages here say when asked for a name: submodules load then, tracker's own names are looked up."""

import importlib

import tracker

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Container


def lookup(
    package: str, submodules: "Container[str]", trackers: "Container[str]" = ()
) -> "Callable[[str], Any]":
    """Return the __getattr__ of a package with these submodules, and these names from tracker."""

    def get(name: str) -> "Any":
        if name in submodules:
            return importlib.import_module("%s.%s" % (package, name))
        if name in trackers:
            return getattr(tracker, name)
        raise AttributeError(
            "module %r has no attribute %r (this is the one of tracker-wandb, see docs/wandb.md)"
            % (package, name)
        )

    return get
