"""wandb.sdk.lib.config_util: what a refused change of a config is called. Here none is raised."""

from tracker import ConfigError

__all__ = ["ConfigError"]
