"""wandb.data_types: the classes of rich values, all that tracker._rich says are public."""

from tracker._rich import *  # noqa: F403
from tracker._rich import RichValue as WBValue  # noqa: F401 - what their base class is called there
