"""wandb.sdk.wandb_login: login()."""

from tracker import login

__all__ = ["login"]
