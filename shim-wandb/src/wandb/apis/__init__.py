"""wandb.apis: reading runs back."""

from tracker import Api

from . import public

PublicApi = Api

__all__ = ["Api", "PublicApi", "public"]
