"""packaging/completion: what bash, zsh and fish complete, made by shtab from the programs' parsers."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import shtab

from . import programs

SHELLS = ("bash", "zsh", "fish")


def files() -> dict[str, str]:
    """Return the text of each file by its name, such as "tracker-agent.bash"."""
    return {
        f"{parser.prog}.{shell}": _completion(parser, shell)
        for parser in (programs.agent(), programs.server(), programs.tracker())
        for shell in SHELLS
    }


def _completion(parser: argparse.ArgumentParser, shell: str) -> str:
    for action in _actions(parser):
        if action.metavar in ("FILE", "DIR") or action.dest in ("data", "directory"):
            files = action.metavar == "FILE"
            action.complete = shtab.FILE if files else shtab.DIRECTORY  # type: ignore[attr-defined]
    text: str = shtab.complete(parser, shell=shell)
    # Not which release of shtab made it, nor white space at the ends of lines: the files are kept in git.
    return "\n".join(line.rstrip() for line in text.splitlines()) + "\n"


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                yield from _actions(below)
