"""Errors and levels with the names that scripts import.

Nothing raises them into a training but calls whose result it cannot do without, such as use_artifact().
"""

from enum import Enum


class Error(Exception):
    """What this package raises."""

    def __init__(self, message: object = "", context: object = None) -> None:
        super().__init__(message)
        self.message = str(message)
        self.context = context


class CommError(Error):
    """A server could not be asked."""

    def __init__(self, message: object = "", exc: object = None) -> None:
        super().__init__(message)
        self.exc = exc


class UsageError(Error):
    """A call that makes no sense."""


class ConfigError(Error):
    """A change of a config that is not allowed. For `except` clauses: here such changes are warned of."""


class AlertLevel(str, Enum):
    """How urgent an alert is."""

    INFO = "INFO"
    WARN = "WARN"
    ERROR = "ERROR"
