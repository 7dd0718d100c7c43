"""wandb.wandb_run: where libraries look for the class of runs."""

from tracker import Run

__all__ = ["Run"]
