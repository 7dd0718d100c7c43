"""wandb.sdk.lib.disabled: classes that disabled runs and their summaries are instances of.

There is one class of runs here. Libraries ask isinstance(run, (Run, RunDisabled)), and some for the second
alone.
"""

from tracker import Run, Summary

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class _Disabled(type):
    """Asks the run itself."""

    def __instancecheck__(cls, instance: "Any") -> bool:
        return isinstance(instance, Run) and instance.disabled


class RunDisabled(metaclass=_Disabled):
    """A run with mode="disabled"."""


class SummaryDisabled(Summary):
    """Nothing is an instance of this: the summary of a disabled run is a Summary."""
