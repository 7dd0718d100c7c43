"""wandb.errors: what calls raise whose result cannot be done without. Logging raises none of them."""

from tracker import CommError, Error, UsageError

from . import term


class AuthenticationError(CommError):
    """Kept for `except` clauses: keys are checked by the agent, never in the training."""


class UnsupportedError(UsageError):
    """Something that Tracker does not have."""


__all__ = ["AuthenticationError", "CommError", "Error", "UnsupportedError", "UsageError", "term"]
