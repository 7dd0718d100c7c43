"""wandb.sdk.wandb_watch: watch() and unwatch()."""

from tracker import unwatch, watch

__all__ = ["unwatch", "watch"]
