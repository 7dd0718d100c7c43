"""wandb.sdk.lib: among others, what a run that records nothing is an instance of."""

from ..._lazy import lookup
from .disabled import RunDisabled, SummaryDisabled

__all__ = ["RunDisabled", "SummaryDisabled"]

__getattr__ = lookup(__name__, frozenset(["config_util", "disabled", "runid", "telemetry"]))
