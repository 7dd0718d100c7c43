"""What a command of the command line is, its exit statuses, and the flags that several commands share."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..config import CONFIG_VARIABLE, default_state_dir, load_config

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
#: As `systemctl status` has it: the program is not running.
EXIT_NOT_RUNNING = 3


@dataclass(frozen=True)
class Command:
    """One command: `tracker-agent NAME …`.

    add_arguments() tells its parser what it takes; run() does it and returns the exit status. What a command
    alone needs it imports when it runs, so that `status` does not wait for the modules of `run`.
    """

    name: str
    summary: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]


def fail(message: str, status: int = EXIT_FAILED) -> int:
    """Say on stderr what went wrong; return the exit status."""
    print(f"tracker-agent: {message}", file=sys.stderr)
    return status


def add_config_flag(parser: argparse.ArgumentParser) -> None:
    """Let a command take --config."""
    parser.add_argument("--config", metavar="FILE", type=Path, help=f"config file (or ${CONFIG_VARIABLE})")


def config_file(options: argparse.Namespace) -> Path | None:
    """Return the config file that a flag or the variable names."""
    if options.config is not None:
        return Path(options.config)
    named = os.environ.get(CONFIG_VARIABLE)
    return Path(named) if named else None


def add_agent_flags(parser: argparse.ArgumentParser) -> None:
    """Let a command that asks a running agent be told which one: --state-dir or --config."""
    add_config_flag(parser)
    parser.add_argument("--state-dir", metavar="DIR", type=Path, help="the agent's state directory")


def state_dirs(options: argparse.Namespace) -> list[Path]:
    """Return where the agent may be: where we are told, else the user's own agent, else the system's."""
    if options.state_dir is not None:
        return [options.state_dir]
    file = config_file(options)
    if file is not None:
        return [load_config(file, os.environ, {}, os.geteuid()).state_dir]
    named = os.environ.get("TRACKER_AGENT_AGENT_STATE_DIR")
    if named:
        return [Path(named)]
    places = (default_state_dir(os.environ, os.geteuid()), default_state_dir({}, 0))
    return [Path(place) for place in dict.fromkeys(places)]
