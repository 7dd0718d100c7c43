"""wandb.apis.public: reading runs back."""

from tracker import Api

__all__ = ["Api"]
