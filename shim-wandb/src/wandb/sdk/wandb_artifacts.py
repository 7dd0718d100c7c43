"""wandb.sdk.wandb_artifacts: the class of artifacts, where older libraries look for it."""

from tracker import Artifact

__all__ = ["Artifact"]
