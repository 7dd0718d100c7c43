"""wandb.data_types: the classes of rich values."""

from tracker._rich import *  # noqa: F403 - what tracker._rich says is public
from tracker._rich import RichValue as WBValue
from tracker._rich import __all__ as _RICH

__all__ = [*_RICH, "WBValue"]
