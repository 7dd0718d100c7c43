"""`tracker sync`: hands runs to `tracker-agent sync`, which ships them."""

import importlib.util
import os
import shutil
import subprocess
import sys
from typing import List, Optional

from .._credentials import read_keys
from .found import NotFound, find_run, roots
from .printing import complain, parser

_MISSING = (
    "tracker sync: the agent, which does the shipping, is not installed here. Either install tracker-agent "
    "into an environment of Python 3.11 or later and have that on PATH, or carry the directory to a machine "
    "that has it: `tracker-agent sync DIR` there ships runs of other machines, too"
)


def main(argv: List[str]) -> int:
    """Start `tracker-agent sync` with these runs; return its exit status."""
    arguments = parser(
        "sync",
        "Ship runs that were written offline, or that no agent took. An agent that runs here takes them "
        "over; where there is none, or with --server, this process ships them. It is safe to repeat: what "
        "the server has is not sent again.",
        "    tracker sync runs/k2v9x0p1ab --wait\n"
        "    tracker sync /scratch/spool --server https://tracker.example.org --key-file key\n\n"
        "`tracker-agent sync` does the work; it is a program of its own.\n"
        "Exit codes: 0: shipped or handed over, 1: no such run, no agent, else what\n"
        "`tracker-agent sync` ends with.",
    )
    arguments.add_argument(
        "runs",
        metavar="RUN",
        nargs="+",
        help="a run's directory, id or name, a directory of runs, or a spool",
    )
    arguments.add_argument("--wait", action="store_true", help="until the server has everything")
    arguments.add_argument("--server", metavar="URL", help="ship from here to this server")
    arguments.add_argument(
        "--key-file",
        metavar="FILE",
        help="file with the API key for it; default: TRACKER_API_KEY or that of `tracker login`",
    )
    arguments.add_argument("--ca-file", metavar="FILE", help="certificates of authorities to trust")
    options = arguments.parse_args(argv)
    try:
        directories = [
            os.path.abspath(run) if os.path.isdir(run) else find_run(run, os.environ) for run in options.runs
        ]
    except NotFound as error:
        complain("tracker sync: %s" % error)
        return 1
    agent = find_agent_program()
    if agent is None:
        complain(_MISSING)
        return 1
    command = agent + ["sync"] + (["--wait"] if options.wait else [])
    for option, value in (
        ("--server", options.server), ("--key-file", options.key_file), ("--ca-file", options.ca_file)
    ):  # fmt: skip
        if value is not None:
            command += [option, value]
    if options.server is not None and options.key_file is None and not os.environ.get("TRACKER_API_KEY"):
        key = kept_key(options.server, os.environ.get("TRACKER_ACCOUNT", ""))
        if key is not None:
            os.environ["TRACKER_API_KEY"] = (
                key  # not an argument: those are shown to everybody on this machine
            )
    sys.stdout.flush()
    return _become(command + ["--"] + directories)


def kept_key(server: str, account: str) -> Optional[str]:
    """Return the key that `tracker login` was given for this very server, None where it was given none."""
    wanted = (server.rstrip("/"), account)
    for root in roots(os.environ):
        for entry in reversed(read_keys(root)):
            if (entry["server"].rstrip("/"), entry["account"]) == wanted:
                return entry["key"]
    return None


def find_agent_program() -> Optional[List[str]]:
    """Return how the agent's command is started: from PATH or with this interpreter; None where it is not."""
    beside = os.path.join(os.path.dirname(sys.executable or ""), "tracker-agent")
    for program in (shutil.which("tracker-agent"), beside):
        if program is not None and os.access(program, os.X_OK):
            return [program]
    if importlib.util.find_spec("tracker_agent") is not None:
        return [sys.executable, "-m", "tracker_agent.cli"]
    return None


def _become(command: List[str]) -> int:
    if os.name == "posix":
        os.execv(command[0], command)  # noqa: S606 - Ctrl-C and the exit status are its own
    return subprocess.call(command)
