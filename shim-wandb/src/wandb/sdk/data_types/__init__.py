"""wandb.sdk.data_types: the classes of rich values, all that tracker._rich says are public."""

from tracker._rich import *  # noqa: F403
