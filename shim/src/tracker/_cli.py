"""The command `tracker`: finds the subcommand and runs it.

Each subcommand is a module with main(arguments) -> exit status, loaded when it is called. Exit codes: 0 done,
1 it could not be done, 2 it was called wrongly; `tracker run` ends as its program does.
"""

import os
import sys
from typing import Callable, Dict, List, NamedTuple, Optional, Sequence

from ._version import VERSION


class Command(NamedTuple):
    """One subcommand: where its code is, and what it does."""

    module: str
    function: str
    summary: str


COMMANDS: Dict[str, Command] = {
    "init": Command("tracker._commands.init", "main", "set project, entity and server for this directory"),
    "login": Command("tracker._commands.login", "main", "give this machine's agent a key for your runs"),
    "on": Command("tracker._commands.switch", "turn_on", "record what runs in this directory, again"),
    "off": Command("tracker._commands.switch", "turn_off", "record nothing of what runs in this directory"),
    "run": Command("tracker._supervise", "main", "run a program, in any language, and record how it goes"),
    "log": Command("tracker._commands.log", "main", "record values from a shell script"),
    "ls": Command("tracker._commands.ls", "main", "list the runs on this machine"),
    "cat": Command("tracker._commands.cat", "main", "show a run's records, as text, JSON or CSV"),
    "verify": Command("tracker.protocol.verify", "main", "check every record in a directory"),
    "sync": Command("tracker._commands.sync", "main", "ship runs that were written offline"),
    "restore": Command("tracker._restore", "main", "bring back a run's commit, patch, config and files"),
}

EXIT_FAILED = 1
EXIT_USAGE = 2
#: As a shell has it after Ctrl-C.
EXIT_INTERRUPTED = 130


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run the command line and return its exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        status = _dispatch(arguments)
        _flush()
        return status
    except SystemExit as error:  # argparse leaves so, after --help too
        return _leave(error.code)
    except BrokenPipeError:
        # The reader of our output, such as `head`, has seen enough.
        _discard_output()
        return 0
    except KeyboardInterrupt:
        _discard_output()
        return EXIT_INTERRUPTED
    except OSError as error:
        where = " (%s)" % error.filename if error.filename else ""
        _complain("tracker %s: %s%s" % (arguments[0], error.strerror or error, where))
        _discard_output()
        return EXIT_FAILED


def _dispatch(arguments: List[str]) -> int:
    name, rest = (arguments[0], arguments[1:]) if arguments else ("", [])
    if name == "help" and rest:
        name, rest = rest[0], ["--help"]
    if name in ("-h", "--help", "help"):
        sys.stdout.write(overview())
        return 0
    if name in ("-V", "--version"):
        sys.stdout.write("tracker %s\n" % VERSION)
        return 0
    if not name:
        sys.stdout.write(overview())
        return EXIT_USAGE
    command = COMMANDS.get(name)
    if command is None:
        return _unknown(name)
    return _function(command)(rest)


def _function(command: Command) -> Callable[[List[str]], int]:
    import importlib

    function: Callable[[List[str]], int] = getattr(importlib.import_module(command.module), command.function)
    return function


def overview() -> str:
    """Return what `tracker --help` says."""
    width = max(map(len, COMMANDS))
    lines = [
        "usage: tracker COMMAND [ARGUMENT ...]",
        "",
        "Looks after the runs recorded on this machine.",
        "",
    ]
    lines += ["  %s  %s" % (name.ljust(width), command.summary) for name, command in COMMANDS.items()]
    lines += [
        "",
        "`tracker COMMAND --help` tells more about each, `tracker --version` which version this is.",
        "Exit codes: 0 done, 1 it could not be done, 2 it was called wrongly;",
        "`tracker run` ends as its program does.",
    ]
    return "\n".join(lines) + "\n"


def _unknown(name: str) -> int:
    import difflib

    near = difflib.get_close_matches(name, list(COMMANDS), 1, 0.5)
    hint = "did you mean `tracker %s`?" % near[0] if near else "`tracker --help` lists them"
    _complain("tracker: there is no command %s; %s" % (ascii(name), hint))
    return EXIT_USAGE


def _leave(code: object) -> int:
    try:
        _flush()
    except OSError:
        _discard_output()
    if code is None or isinstance(code, int):
        return code or 0
    _complain(str(code))
    return EXIT_FAILED


def _flush() -> None:
    if sys.stdout is not None:
        sys.stdout.flush()


def _discard_output() -> None:
    """Let what is still buffered go nowhere, so that Python has nothing to complain about at exit."""
    try:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)
    except (OSError, ValueError, AttributeError):
        pass


def _complain(text: str) -> None:
    try:
        sys.stderr.write(text + "\n")
    except (OSError, ValueError, AttributeError):
        pass  # nobody listens
