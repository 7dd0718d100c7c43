"""wandb.sdk.artifacts: artifacts."""

from tracker import Artifact

__all__ = ["Artifact"]
