"""The command `tracker login`: gives the agent of this machine a key for the user's runs."""

import argparse
import os
import sys
from typing import List, Optional

from ._credentials import store_key
from ._settings import Settings
from ._spool import candidate_roots


def main(argv: List[str]) -> int:
    """Read a key from the terminal or stdin and store it; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="tracker login",
        description="Read an API key from stdin and keep it where this machine's agent finds it. Runs that "
        "are under way take it up, too: this is how a key is replaced.",
    )
    parser.add_argument("--server", metavar="URL", help="the server it is for; default: the agent's own")
    parser.add_argument(
        "--account",
        metavar="NAME",
        help="ship only runs of this account with it; default: runs that name none",
    )
    parser.add_argument("--dir", metavar="DIR", help="the spool; default: the one that init() would use")
    options = parser.parse_args(argv)
    settings = Settings({"base_url": options.server, "account": options.account, "api_key": _read_key()}, {})
    if settings.problems or not settings.api_key:
        sys.stderr.write("tracker login: %s\n" % "; ".join(settings.problems or ["no key was given"]))
        return 2
    for root, _ in candidate_roots(options.dir, os.environ.get("TRACKER_DIR"), os.environ):
        try:
            path = store_key(root, settings.server or "", options.account or "", settings.api_key)
        except OSError as error:
            sys.stderr.write("tracker login: cannot use %s: %s\n" % (root, error.strerror or error))
            if options.dir:
                return 1
            continue
        sys.stdout.write("kept in %s\n" % path)
        return 0
    return 1


def _read_key() -> Optional[str]:
    if sys.stdin is None:
        return None
    if sys.stdin.isatty():
        import getpass

        return getpass.getpass("API key: ")
    return sys.stdin.readline()
