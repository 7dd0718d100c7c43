"""wandb.sklearn is wandb.integration.sklearn."""

import sys

from .integration import sklearn

sys.modules[__name__] = sklearn
