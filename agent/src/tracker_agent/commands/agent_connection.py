"""Asks the agent that runs, wherever its state directory is, for the commands that show what it does."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from typing import Any

from ..control import ControlError, NotRunningError, ask, follow
from .command import EXIT_FAILED, EXIT_NOT_RUNNING, state_dirs


class NoAnswer(Exception):
    """The agent could not be asked; `status` is the exit status that says so."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


def ask_agent(
    options: argparse.Namespace,
    command: str,
    arguments: Mapping[str, Any] | None = None,
    timeout_s: float = 10.0,
) -> dict[str, Any]:
    """Return the running agent's answer. Raise NoAnswer."""
    missing: Exception | None = None
    for state_dir in state_dirs(options):
        try:
            return ask(state_dir, command, arguments, timeout_s)
        except NotRunningError as error:
            missing = missing or error
        except ControlError as error:
            raise NoAnswer(str(error), EXIT_FAILED) from error
    raise _not_running(missing)


def follow_agent(
    options: argparse.Namespace, command: str, arguments: Mapping[str, Any] | None = None
) -> Iterator[dict[str, Any]]:
    """Yield what the running agent says until it is done. Raise NoAnswer."""
    missing: Exception | None = None
    for state_dir in state_dirs(options):
        try:
            yield from follow(state_dir, command, arguments)
            return
        except NotRunningError as error:
            missing = missing or error
        except ControlError as error:
            raise NoAnswer(str(error), EXIT_FAILED) from error
    raise _not_running(missing)


def _not_running(missing: Exception | None) -> NoAnswer:
    return NoAnswer(
        f"{missing}; start it with `systemctl start tracker-agent` or `tracker-agent run`, "
        "or name its directory with --state-dir",
        EXIT_NOT_RUNNING,
    )
