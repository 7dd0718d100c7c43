"""wandb.sdk.artifacts.artifact: the class of artifacts."""

from tracker import Artifact

__all__ = ["Artifact"]
