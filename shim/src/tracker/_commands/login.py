"""`tracker login`: gives the agent of this machine a key for the user's runs."""

import argparse
import os
import sys
from typing import List, Optional

from .._credentials import store_key
from .._settings import Settings
from .._settings_file import read_settings
from .._spool import candidate_roots
from .found import working_directory
from .printing import complain, parser, say


def main(argv: List[str]) -> int:
    """Read a key from the terminal or stdin and store it; return the exit status."""
    arguments = parser(
        "login",
        "Read an API key from stdin, or ask for it on a terminal, and keep it where this machine's agent "
        "finds it. Runs that are under way take it up, too: this is how a key is replaced.",
        "    tracker login < key-file\n"
        '    echo "$NEW_KEY" | tracker login --account 4f8a1c22   # the old one\n\n'
        "The key is kept in a file in your own directory of the spool, which only you and\n"
        "the agent can read, and in no run. Nothing is sent anywhere until the agent ships\n"
        "a run with it.\n"
        "Exit codes: 0, 1: it cannot be kept, 2: no key, or one that cannot be right.",
    )
    arguments.add_argument(
        "--server",
        metavar="URL",
        help="the server it is for; default: that of the scripts here, else the agent's own",
    )
    arguments.add_argument(
        "--account",
        metavar="NAME",
        help="ship only runs of this account with it; default: runs that name none",
    )
    arguments.add_argument("--dir", metavar="DIR", help="the spool; default: the one that init() would use")
    arguments.add_argument("key", nargs="?", help=argparse.SUPPRESS)
    options = arguments.parse_args(argv)
    if options.key is not None:
        arguments.error("a key on a command line is shown to everybody on this machine: pipe it in instead")
    files = read_settings(os.environ, working_directory())
    server = options.server or os.environ.get("TRACKER_BASE_URL") or files.get("base_url")
    settings = Settings({"base_url": server, "account": options.account, "api_key": _read_key()}, {})
    if settings.problems or not settings.api_key:
        complain("tracker login: %s" % "; ".join(settings.problems or ["no key was given"]))
        return 2
    variable = os.environ.get("TRACKER_DIR") or files.get("dir")
    for root, _ in candidate_roots(options.dir, variable, os.environ):
        try:
            path = store_key(root, settings.server or "", options.account or "", settings.api_key)
        except OSError as error:
            complain("tracker login: cannot use %s: %s" % (root, error.strerror or error))
            if options.dir:
                return 1
            continue
        say("kept in %s%s" % (path, ", for " + settings.server if settings.server else ""))
        return 0
    return 1


def _read_key() -> Optional[str]:
    if sys.stdin is None:
        return None
    if sys.stdin.isatty():
        import getpass

        return getpass.getpass("API key: ")
    return sys.stdin.readline()
