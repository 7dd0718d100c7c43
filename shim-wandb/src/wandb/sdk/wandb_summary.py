"""wandb.sdk.wandb_summary: the class of summaries."""

from tracker import Summary

__all__ = ["Summary"]
