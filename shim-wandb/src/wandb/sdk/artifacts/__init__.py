"""wandb.sdk.artifacts: artifacts."""

from ..._lazy import lookup

__getattr__ = lookup(__name__, frozenset(["artifact"]), frozenset(["Artifact"]))
