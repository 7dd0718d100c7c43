"""`tracker cat`: the records of a run, one line each."""

import os
import sys
import time
from typing import Any, List, Optional, Set

from .found import NotFound, find_run
from .metric_csv import write_csv
from .printing import complain, parser, say
from .record_flow import NAMES, RunFlow
from .record_text import json_line, text_line

#: How often --follow looks for more.
FOLLOW_S = 0.5


def main(argv: List[str]) -> int:
    """Print a run's records; return the exit status."""
    arguments = parser(
        "cat",
        "Print the records of a run, one line each, in the order of their times. The run may be under way.",
        "Kinds: %s.\n\n"
        "    tracker cat brisk-otter-417 --kind console --follow\n"
        "    tracker cat k2v9x0p1ab --json | jq 'select(.kind == \"METRICS\") | .values.loss'\n"
        "    tracker cat /var/spool/tracker/1000/k2v9x0p1ab --csv > metrics.csv\n\n"
        "Damage shows as lines of kind GAP or MALFORMED; `tracker verify` sums it up.\n"
        "Exit codes: 0, 1: there is no such run, 2: wrong arguments." % _wrapped(NAMES),
    )
    arguments.add_argument("run", metavar="RUN", help="a run's directory, id or name")
    arguments.add_argument(
        "--kind",
        metavar="KIND",
        action="append",
        help="only these kinds, separated by commas or given repeatedly",
    )
    form = arguments.add_mutually_exclusive_group()
    form.add_argument(
        "--json", action="store_true", help="print a JSON object a line, with all of every value"
    )
    form.add_argument("--csv", action="store_true", help="print the metrics as CSV, a row for each log()")
    arguments.add_argument(
        "--follow", action="store_true", help="go on with what is being written, until nobody writes any more"
    )
    options = arguments.parse_args(argv)
    wanted = _kinds(options.kind)
    unknown = sorted((wanted or set()) - set(NAMES))
    if unknown:
        arguments.error("there is no kind %s: choose from %s" % (", ".join(unknown), ", ".join(NAMES)))
    if options.csv and (options.follow or wanted):
        arguments.error("--csv prints the metrics written so far: neither --follow nor --kind goes with it")
    try:
        directory = find_run(options.run, os.environ)
    except NotFound as error:
        complain("tracker cat: %s" % error)
        return 1
    if options.csv:
        write_csv(directory, sys.stdout)
    else:
        _print(directory, wanted, options.json, options.follow)
    return 0


def _kinds(given: Optional[List[str]]) -> Optional[Set[str]]:
    if given is None:
        return None
    return {name.strip().upper() for each in given for name in each.split(",") if name.strip()}


def _print(directory: str, wanted: Optional[Set[str]], as_json: bool, follow: bool) -> None:
    flow = RunFlow(directory) if follow else RunFlow(directory, damage_wait_s=0.0)
    while True:
        for entry in flow.entries():
            if wanted is None or entry.kind in wanted:
                say(json_line(entry) if as_json else text_line(entry, flow.several))
        if not follow or flow.finished:
            return
        sys.stdout.flush()
        time.sleep(FOLLOW_S)


def _wrapped(names: Any) -> str:
    return ", ".join(names[:8]) + ",\n" + ", ".join(names[8:])
