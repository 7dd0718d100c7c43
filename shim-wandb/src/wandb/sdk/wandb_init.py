"""wandb.sdk.wandb_init: init()."""

from tracker import init

__all__ = ["init"]
