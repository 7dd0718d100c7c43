"""wandb.integration: small callbacks with wandb's names and signatures."""

from .._lazy import lookup

__getattr__ = lookup(__name__, frozenset(["keras", "lightgbm", "sb3", "sklearn", "xgboost"]))
