"""`tracker ls`: the runs in a spool, with their names, states and sizes."""

import fnmatch
import os
import time
from typing import Iterable, List

from ..protocol.run_state import STATES
from .found import FoundRun, find_runs, roots, runs_of_user
from .printing import complain, parser, printable, say, size


def main(argv: List[str]) -> int:
    """List runs; return the exit status."""
    arguments = parser(
        "ls",
        "List runs, the oldest first: those in DIR, or in all spools that tracker.init() would use here.",
        "The state is what the run's files here say: running (somebody writes to it),\n"
        "finished, failed (an exit code other than 0) or crashed (a writer is gone and left\n"
        "no exit code).\n\n"
        "    tracker ls --state running\n"
        "    tracker ls --project 'digits*' --json | jq -r '.[].directory'\n\n"
        "Exit codes: 0 (no runs too), 2: DIR is no directory.",
    )
    arguments.add_argument(
        "directory", metavar="DIR", nargs="?", help="a spool, a user's directory in it, or a run's"
    )
    arguments.add_argument("--project", metavar="PATTERN", help="only projects that match, such as 'digits*'")
    arguments.add_argument("--name", metavar="PATTERN", help="only names or ids that match")
    arguments.add_argument("--state", choices=STATES, help="only runs of this state")
    arguments.add_argument("--last", metavar="N", type=int, help="only the N that began last")
    arguments.add_argument("--json", action="store_true", help="print a JSON array, times in ns since 1970")
    options = arguments.parse_args(argv)
    if options.directory is not None and not os.path.isdir(options.directory):
        complain("tracker ls: %s is not a directory" % options.directory)
        return 2
    found: Iterable[FoundRun]
    found = find_runs(options.directory) if options.directory is not None else runs_of_user(os.environ)
    runs = sorted((run for run in found if _is_wanted(run, options)), key=lambda run: run.started)
    if options.last is not None:
        runs = runs[-options.last :] if options.last > 0 else []
    if not runs:
        complain("tracker ls: no such run in %s" % (options.directory or ", ".join(roots(os.environ))))
    if options.json:
        import json

        say(json.dumps([run._asdict() for run in runs], indent=2))
    else:
        _print_table(runs)
    return 0


def _is_wanted(run: FoundRun, options: "object") -> bool:
    project, name, state = (getattr(options, each) for each in ("project", "name", "state"))
    return (
        (project is None or fnmatch.fnmatchcase(run.project, project))
        and (name is None or fnmatch.fnmatchcase(run.name, name) or fnmatch.fnmatchcase(run.run, name))
        and (state is None or run.state == state)
    )


def _print_table(runs: List[FoundRun]) -> None:
    rows = [("RUN", "NAME", "PROJECT", "STATE", "STARTED", "STREAMS", "SIZE", "DIRECTORY")]
    for run in runs:
        streams = "%d (%d live)" % (run.streams, run.live) if run.live else str(run.streams)
        texts = (run.run, run.name, run.project, run.state, local_time(run.started), streams, size(run.size))
        rows.append(tuple(map(printable, texts + (run.directory,))))  # type: ignore[arg-type]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        say("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())


def local_time(time_ns: int) -> str:
    """Return a time as the clock on the wall showed it, or the number where no clock goes so far."""
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(time_ns // 10**9))
    except (OverflowError, ValueError, OSError):
        return str(time_ns)
