"""wandb.keras is wandb.integration.keras."""

import sys

from .integration import keras

sys.modules[__name__] = keras
