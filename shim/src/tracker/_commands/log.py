"""`tracker log`: records values from a shell script, in a run that exists or in a new one."""

import contextlib
import io
import json
import os
import sys
from typing import Any, Dict, Iterable, Iterator, List, NamedTuple, Optional, Tuple

import tracker

from .._spool import own_directories
from ..protocol.header import ASIDE, valid_run_id
from .found import read_run, roots
from .printing import complain, parser, say

_MORE = (
    "A VALUE that is a number, nan, inf, true or false is recorded as that, any other\n"
    "as text. Without --run the run is that of TRACKER_RUN_ID, which `tracker run`\n"
    "sets, or else a new one, whose id is printed:\n\n"
    "    run=$(tracker log --project backups --config host=db3)\n"
    '    tracker log --run "$run" bytes=73400320 seconds=12.5\n'
    '    simulate | tracker log --run "$run" -\n\n'
    'With `-` each line of stdin is a record: a=1 b=2, or {"a": 1, "b": 2}.\n'
    "Each call leaves a file in the run's directory: in loops of thousands use `-`.\n"
    "Exit codes: 0, 1: something was not recorded, 2: wrong arguments."
)

#: What this process must not do to the run that it joins: watch its output, describe its code, decide how it
#: ended.
_SETTINGS = {"console": "off", "disable_code": True, "role": ASIDE}


class Target(NamedTuple):
    """The run to write to. directory: None where it is still to be made."""

    run: Optional[str]
    root: Optional[str]
    directory: Optional[str]


def main(argv: List[str]) -> int:
    """Record the values in argv or on stdin; return the exit status."""
    arguments = parser("log", "Record values in a run, as tracker.log() does in a script.", _MORE)
    arguments.add_argument(
        "values", metavar="NAME=VALUE", nargs="*", help="what to record; -: read it from stdin"
    )
    arguments.add_argument("--run", metavar="ID", help="the run; made where there is none of this id")
    arguments.add_argument(
        "--step", metavar="N", type=int, help="default: one more than the run's greatest so far"
    )
    arguments.add_argument(
        "--config", metavar="NAME=VALUE", action="append", default=[], help="a setting of the run"
    )
    arguments.add_argument(
        "--summary", metavar="NAME=VALUE", action="append", default=[], help="a result of the run"
    )
    arguments.add_argument("--project", metavar="NAME", help="of a new run")
    arguments.add_argument("--name", metavar="NAME", help="of a new run")
    arguments.add_argument("--dir", metavar="DIR", help="the spool; default: the one that init() would use")
    options = arguments.parse_args(argv)
    from_stdin = "-" in options.values
    try:
        values = dict(parse_pair(text) for text in options.values if text != "-")
        config = dict(map(parse_pair, options.config))
        summary = dict(map(parse_pair, options.summary))
    except ValueError as error:
        arguments.error(str(error))
    wanted = options.run or os.environ.get("TRACKER_RUN_ID") or None
    if wanted is not None and not valid_run_id(wanted):
        arguments.error("%r is no run id: 1 to 64 of A-Z a-z 0-9 . _ -, no dot first" % wanted)
    if wanted is not None and not (values or config or summary or from_stdin):
        arguments.error("nothing to record: give NAME=VALUE, or - to read it from stdin")
    target = find_target(wanted, options.dir)
    rows: Iterable[Dict[str, Any]] = [values] if values else []
    faults: List[str] = []
    if from_stdin:
        rows = _chained(rows, read_rows(sys.stdin, faults))
    lost = _record(target, options, config, summary, rows)
    for fault in faults:
        complain("tracker log: " + fault)
    return 1 if lost or faults else 0


def find_target(run: Optional[str], root: Optional[str]) -> Target:
    """Return where a run of this id and of this user is, or is to be."""
    if run is not None:
        for place in [os.path.abspath(os.path.expanduser(root))] if root else roots(os.environ):
            own = [path for path in own_directories(place) if os.path.isdir(os.path.join(path, run))]
            if own:
                return Target(run, place, os.path.join(own[0], run))
    return Target(run, root, None)


def parse_pair(text: str) -> Tuple[str, Any]:
    """Return name and value of NAME=VALUE. Raise ValueError."""
    name, separator, value = text.partition("=")
    if not separator or not name:
        raise ValueError("%r is not NAME=VALUE" % text)
    return name, parse_value(value)


def parse_value(text: str) -> Any:
    """Return a number or bool where the text is one, else the text."""
    if text in ("true", "false"):
        return text == "true"
    if "_" in text or text != text.strip():  # int() and float() would take these
        return text
    try:
        return int(text)
    except ValueError:
        pass
    try:
        return float(text)
    except ValueError:
        return text


def read_rows(lines: Iterable[str], faults: List[str]) -> Iterator[Dict[str, Any]]:
    """Yield the values on each line: NAME=VALUE, separated by blanks, or a JSON object."""
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text:
            continue
        try:
            row = json.loads(text) if text[0] == "{" else dict(map(parse_pair, text.split()))
        except (ValueError, RecursionError) as error:
            faults.append("line %d of stdin: %s" % (number, error))
            continue
        yield row


def _chained(*rows: Iterable[Dict[str, Any]]) -> Iterator[Dict[str, Any]]:
    for each in rows:
        for row in each:
            yield row


def _record(
    target: Target,
    options: Any,
    config: Dict[str, Any],
    summary: Dict[str, Any],
    rows: Iterable[Dict[str, Any]],
) -> bool:
    """Write to the run; return whether anything was lost."""
    run = _open(target, options)
    try:
        if target.directory is None:
            # At once, so that a script that reads our output has it while stdin goes on.
            say(run.id)
            sys.stdout.flush()
        if config:
            run.config.update(config, allow_val_change=True)
        for name, value in summary.items():
            run.summary[name] = value
        step = options.step
        for row in rows:
            run.log(row, step=step, commit=True)
            step = None
    finally:
        run.finish()
    return bool(run.lost)


def _open(target: Target, options: Any) -> Any:
    project, entity, name = options.project, None, options.name
    known = read_run(target.directory) if target.directory is not None else None
    if known is not None:
        # A run is in one project for ever: what was given with the first records holds.
        project, entity, name = known.project or None, known.entity or None, None
    heard = io.StringIO()
    with contextlib.redirect_stderr(heard):
        run = tracker.init(
            project=project,
            entity=entity,
            name=name,
            id=target.run,
            dir=target.root,
            resume="allow",
            settings=dict(_SETTINGS),
        )
    for line in heard.getvalue().splitlines():
        # One line tells which run this is. Of one that was there before, everybody has heard.
        if known is None or line.startswith("tracker: warning"):
            complain(line)
    return run
