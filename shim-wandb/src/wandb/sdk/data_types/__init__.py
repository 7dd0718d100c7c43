"""wandb.sdk.data_types: the classes of rich values."""

from tracker._rich import *  # noqa: F403 - what tracker._rich says is public
from tracker._rich import __all__ as __all__  # noqa: PLC0414
