"""wandb.sdk.wandb_setup: setup() and teardown()."""

from tracker import setup, teardown

__all__ = ["setup", "teardown"]
