"""wandb.lightgbm is wandb.integration.lightgbm."""

import sys

from .integration import lightgbm

sys.modules[__name__] = lightgbm
