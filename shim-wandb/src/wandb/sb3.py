"""wandb.sb3 is wandb.integration.sb3."""

import sys

from .integration import sb3

sys.modules[__name__] = sb3
