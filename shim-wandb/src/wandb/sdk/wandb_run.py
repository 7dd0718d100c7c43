"""wandb.sdk.wandb_run: the class of runs."""

from tracker import Run

__all__ = ["Run"]
