"""The three programs and their parsers: what their manual pages and completions are made of."""

from __future__ import annotations

import argparse
import contextlib
from typing import Any, NamedTuple
from unittest import mock

from tracker import _cli as tracker_cli
from tracker_agent import cli as agent_cli
from tracker_server import cli as server_cli


class Entry(NamedTuple):
    """One command: `tracker-server key create`, with what it takes."""

    name: str
    parser: argparse.ArgumentParser
    summary: str


def agent() -> argparse.ArgumentParser:
    """Return the parser of tracker-agent."""
    return agent_cli.make_parser()


def server() -> argparse.ArgumentParser:
    """Return the parser of tracker-server."""
    return server_cli.make_parser()


def tracker() -> argparse.ArgumentParser:
    """Return one parser of all commands of tracker, which has none itself: each command is loaded when called."""
    whole = argparse.ArgumentParser(
        prog="tracker", description="Looks after the runs recorded on this machine; it comes with the shim."
    )
    whole.add_argument("--version", action="version", version="")
    commands = whole.add_subparsers(metavar="COMMAND")
    for name, command in tracker_cli.COMMANDS.items():
        parser = _parser_of(command)
        commands.choices[name] = parser  # type: ignore[index]
        commands._choices_actions.append(commands._ChoicesPseudoAction(name, (), command.summary))  # type: ignore[attr-defined]
    return whole


def entries(parser: argparse.ArgumentParser) -> list[Entry]:
    """Return the commands of a program that have none below them, in their order."""
    found: list[Entry] = []
    for commands in (each for each in parser._actions if isinstance(each, argparse._SubParsersAction)):
        summaries: dict[str, Any] = {each.dest: each.help for each in commands._choices_actions}
        for name, below in commands.choices.items():
            found += entries(below) or [Entry(below.prog, below, summaries.get(name) or "")]
    return found


def _parser_of(command: tracker_cli.Command) -> argparse.ArgumentParser:
    """Return the parser that a command makes when it is called."""
    seen: list[argparse.ArgumentParser] = []

    def note(parser: argparse.ArgumentParser, *_: object) -> None:
        seen.append(parser)

    with mock.patch.object(argparse.ArgumentParser, "print_help", note), contextlib.suppress(SystemExit):
        tracker_cli._function(command)(["--help"])
    return seen[0]
