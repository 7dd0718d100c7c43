"""wandb.plot is tracker.plot."""

import sys

from tracker import plot

sys.modules[__name__] = plot
