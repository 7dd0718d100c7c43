"""wandb.integration.keras: callbacks for Keras 3 with any backend, and for the Keras in TensorFlow."""

from .checkpoint import WandbModelCheckpoint
from .evaluation import WandbEvalCallback
from .everything import WandbCallback
from .metrics import WandbMetricsLogger

__all__ = ["WandbCallback", "WandbEvalCallback", "WandbMetricsLogger", "WandbModelCheckpoint"]
