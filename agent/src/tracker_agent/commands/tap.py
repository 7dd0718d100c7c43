"""tracker-agent tap: records as servers take them, decoded for people or as JSON lines for programs."""

from __future__ import annotations

import argparse
import json
import sys

from tracker.protocol import kinds

from .command import EXIT_OK, Command, add_agent_flags, fail


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take which records, and for whom they are shown."""
    add_agent_flags(parser)
    parser.add_argument("--run", metavar="ID", help="only records of this run")
    parser.add_argument(
        "--kind",
        metavar="KIND",
        action="append",
        type=_kind,
        help=f"only records of this kind; repeatable: {', '.join(sorted(kinds.NAMES.values()))}",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object per line, for programs")


def run(options: argparse.Namespace) -> int:
    """Show what passes until Ctrl-C or until the agent stops."""
    from ..passing_records import PassingRecords
    from ..readable import printable, size
    from .agent_connection import NoAnswer, follow_agent

    records = PassingRecords()
    try:
        for message in follow_agent(options, "tap", {"run": options.run}):
            if "listening" in message:
                print("listening; end with Ctrl-C", file=sys.stderr, flush=True)
                continue
            if message["dropped_bytes"]:
                dropped = message["dropped_bytes"]
                if options.json:
                    print(json.dumps({"dropped_bytes": dropped}))
                else:
                    print(f"… {size(dropped)} not shown: more passes than can be shown here")
            for record in records.take(message):
                if options.kind and record.kind not in options.kind:
                    continue
                print(json.dumps(record.to_json()) if options.json else printable(record.to_text()))
            sys.stdout.flush()
    except NoAnswer as error:
        return fail(str(error), error.status)
    except KeyboardInterrupt:
        pass
    return EXIT_OK


def _kind(text: str) -> str:
    """Return the kind as records name it. Numbers stand for kinds that this agent does not know."""
    name = text.upper()
    if name not in kinds.NAMES.values() and not name.isdecimal():
        known = ", ".join(sorted(kinds.NAMES.values())).lower()
        raise argparse.ArgumentTypeError(f"unknown kind {text!r}; known: {known}")
    return name


COMMAND = Command("tap", "show records as servers take them", add_arguments, run)
