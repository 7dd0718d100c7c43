"""tracker-agent pause-gpu: make the agent let go of the GPUs' driver, for a reset, MIG or a new driver."""

from __future__ import annotations

import argparse
import math

from .command import EXIT_FAILED, EXIT_OK, Command, add_agent_flags, fail

PAUSE_S = 600.0
#: The agent waits for the driver.
_ANSWER_S = 30.0
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take for how long, or the end of it."""
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--for",
        dest="for_s",
        metavar="TIME",
        type=parse_time,
        default=PAUSE_S,
        help="how long, such as 90s, 10m or 2h, a day at most; default: 10m",
    )
    what.add_argument("--resume", action="store_true", help="measure GPUs again now")
    add_agent_flags(parser)


def parse_time(text: str) -> float:
    """Return the seconds that "90s", "10m" or "2h" are. Raise ArgumentTypeError."""
    # Here and not above: `status` need not load what the collectors do.
    from ..collectors.gpu_pause import PAUSE_S_MAX

    number, unit = (text[:-1], _UNITS[text[-1]]) if text[-1:] in _UNITS else (text, 1.0)
    try:
        seconds = float(number) * unit
    except ValueError:
        seconds = math.nan
    if not 0 < seconds <= PAUSE_S_MAX:
        raise argparse.ArgumentTypeError(f"{text!r} is no time such as 90s, 10m or 2h, a day at most")
    return seconds


def run(options: argparse.Namespace) -> int:
    """Ask the agent, and say until when it leaves GPUs alone. It failed when a driver is still held."""
    from ..readable import printable
    from .agent_connection import NoAnswer, ask_agent

    asked = {"resume": True} if options.resume else {"for_s": options.for_s}
    try:
        answer = ask_agent(options, "pause-gpu", asked, _ANSWER_S)
    except NoAnswer as error:
        return fail(str(error), error.status)
    if options.resume:
        print("GPUs are measured again." if answer["resumed"] else "GPUs were not paused.")
        return EXIT_OK
    until = f"until {answer['until']}; `tracker-agent pause-gpu --resume` ends that earlier"
    for problem in answer["problems"]:
        fail(printable(problem))
    if answer["problems"]:
        print(f"GPUs are asked nothing more {until}, but a driver is still held: see above.")
        return EXIT_FAILED
    print(f"The driver is let go of, and GPUs are left alone {until}.")
    return EXIT_OK


COMMAND = Command("pause-gpu", "let go of the GPUs' driver for a while, as for a reset", add_arguments, run)
