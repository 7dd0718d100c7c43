"""`tracker init`: writes .tracker/settings, which the scripts of this directory and below go by."""

import os
import sys
from typing import Dict, List, Optional

from .._settings import Settings
from .._settings_file import DIRECTORY, NAME, read_file
from .printing import complain, parser, say
from .settings_edit import change_settings

#: Option, key of the settings file, what is asked.
_QUESTIONS = (
    ("project", "project", "Project"),
    ("entity", "entity", "Entity (a team or user; empty: that of the key that the agent ships with)"),
    ("server", "base_url", "Server (empty: the agent's own)"),
)


def main(argv: List[str]) -> int:
    """Ask for what is not given, and write the file; return the exit status."""
    arguments = parser(
        "init",
        "Write ./.tracker/settings: project, entity and server of the scripts that run in this directory or "
        "below. What is not given is asked for, where there is a terminal.",
        "Arguments of tracker.init() and TRACKER_* variables stand before these settings,\n"
        "these before your own in ~/.config/tracker/settings, which has the same form.\n"
        "The file may be kept with the code: it holds no secret (`tracker login` takes\n"
        "the key).\n\n"
        "    tracker init --project digits\n\n"
        "Exit codes: 0, 1: it cannot be written, 2: nothing was given that can be used.",
    )
    arguments.add_argument("--project", metavar="NAME", help="the project of runs that name none")
    arguments.add_argument("--entity", metavar="NAME", help="the team or user that they belong to")
    arguments.add_argument("--server", metavar="URL", help="the server that they are for")
    options = arguments.parse_args(argv)
    path = os.path.join(os.getcwd(), DIRECTORY, NAME)
    present = read_file(path, []) or {}
    given: Dict[str, Optional[str]] = {
        key: getattr(options, option) for option, key, _ in _QUESTIONS if getattr(options, option) is not None
    }
    if sys.stdin is not None and sys.stdin.isatty():
        for _, key, question in _QUESTIONS:
            if key not in given:
                given[key] = _ask(question, present.get(key, ""))
    elif not given:
        arguments.error("nobody to ask: give --project, --entity or --server")
    problems = Settings({key: value or None for key, value in given.items()}, {}).problems
    if problems:
        complain("tracker init: " + "; ".join(problems))
        return 2
    change_settings(path, {key: value or None for key, value in given.items()})
    say("written: %s" % path)
    return 0


def _ask(question: str, present: str) -> str:
    sys.stdout.write("%s%s: " % (question, " [%s]" % present if present else ""))
    sys.stdout.flush()
    answer = sys.stdin.readline()
    if not answer:  # Ctrl-D
        raise KeyboardInterrupt
    return answer.strip() or present
