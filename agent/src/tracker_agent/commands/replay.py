"""tracker-agent replay: take up parked streams now, or ship as new what the server has otherwise."""

from __future__ import annotations

import argparse

from .command import EXIT_FAILED, EXIT_OK, Command, add_agent_flags, fail


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take which streams, and how."""
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--run", metavar="ID", help="the parked streams of this run")
    which.add_argument("--stream", metavar="ID", help="this parked stream")
    which.add_argument("--all", action="store_true", help="every parked stream")
    parser.add_argument(
        "--as-new",
        action="store_true",
        help="ship diverged streams whole, under a new id: the server keeps both versions",
    )
    add_agent_flags(parser)


def run(options: argparse.Namespace) -> int:
    """Ask the agent and say what it took up."""
    from ..readable import printable
    from .agent_connection import NoAnswer, ask_agent

    asked = {"run": options.run, "stream": options.stream, "as_new": options.as_new}
    try:
        replayed = ask_agent(options, "replay", asked)["replayed"]
    except NoAnswer as error:
        return fail(str(error), error.status)
    if not replayed:
        return fail("no parked stream is meant by that; `tracker-agent status` lists them", EXIT_FAILED)
    diverged = 0
    for each in replayed:
        how = f"shipped as new under {each['as_new']}" if each["as_new"] else "taken up again"
        print(
            printable(f"run {each['run']}, stream {each['stream']}: {how}; it was parked: {each['reason']}")
        )
        diverged += each["code"] == "diverged" and not each["as_new"]
    if diverged:
        print(
            "A diverged stream is parked again while its bytes differ from those on the server: "
            "--as-new ships it under a new id, beside what is there."
        )
    return EXIT_OK


COMMAND = Command("replay", "take up parked streams now, or ship diverged ones as new", add_arguments, run)
