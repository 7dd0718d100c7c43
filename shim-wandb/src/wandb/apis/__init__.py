"""wandb.apis: reading runs back."""

from tracker import Api

PublicApi = Api

__all__ = ["Api", "PublicApi"]
