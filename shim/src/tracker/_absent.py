"""What wandb has and Tracker does not: said when it is called, since a script cannot go on without it."""

from typing import Any

from ._errors import UsageError


def sweep(*_: Any, **__: Any) -> Any:
    """Raise UsageError: there are no sweeps."""
    raise UsageError("Tracker has no sweeps: start one run for each set of values, with the same group")


agent = controller = sweep
