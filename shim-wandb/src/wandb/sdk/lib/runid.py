"""wandb.sdk.lib.runid: ids of runs."""

from ...util import generate_id

__all__ = ["generate_id"]
