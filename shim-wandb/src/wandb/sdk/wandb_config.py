"""wandb.sdk.wandb_config: the class of configs."""

from tracker import Config

__all__ = ["Config"]
