"""tracker-agent status: what the running agent ships, what is behind, what is wrong and what to do."""

from __future__ import annotations

import argparse
import json

from .command import EXIT_OK, Command, add_agent_flags, fail


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take which agent, and for whom the answer is."""
    add_agent_flags(parser)
    parser.add_argument("--json", action="store_true", help="everything, for programs")


def run(options: argparse.Namespace) -> int:
    """Ask and print."""
    from ..report import render
    from .agent_connection import NoAnswer, ask_agent

    try:
        status = ask_agent(options, "status")
    except NoAnswer as error:
        return fail(str(error), error.status)
    print(json.dumps(status, indent=2) if options.json else render(status))
    return EXIT_OK


COMMAND = Command("status", "show what the running agent ships and what is behind", add_arguments, run)
