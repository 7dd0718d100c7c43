"""The command line: makes a parser of the commands in commands/table.py and runs the one that was given."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib.metadata import version

from .commands.command import EXIT_OK, EXIT_USAGE, Command, fail
from .commands.table import COMMANDS
from .config_file import ConfigError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    options = make_parser().parse_args(arguments)
    command: Command = options.command
    try:
        return command.run(options)
    except ConfigError as error:
        return fail(str(error), EXIT_USAGE)
    except BrokenPipeError:
        # The reader of our output, such as `head`, has seen enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return EXIT_OK


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="tracker-agent",
        description="Ships what training runs record, exactly once, and measures this machine.",
    )
    parser.add_argument("--version", action="version", version=f"tracker-agent {version('tracker-agent')}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in COMMANDS:
        subparser = commands.add_parser(command.name, help=command.summary, description=command.summary)
        command.add_arguments(subparser)
        subparser.set_defaults(command=command)
    return parser


if __name__ == "__main__":
    sys.exit(main())
