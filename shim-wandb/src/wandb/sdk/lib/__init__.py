"""wandb.sdk.lib: what a run that records nothing is an instance of."""

from .disabled import RunDisabled, SummaryDisabled

__all__ = ["RunDisabled", "SummaryDisabled"]
