"""wandb.xgboost is wandb.integration.xgboost."""

import sys

from .integration import xgboost

sys.modules[__name__] = xgboost
