"""wandb.sdk.wandb_settings: the class of settings."""

from tracker import Settings

__all__ = ["Settings"]
