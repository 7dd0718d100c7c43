"""tracker-agent top: what the agent does just now, renewed every second, on a terminal."""

from __future__ import annotations

import argparse
import os
import queue
import select
import sys
import termios
import threading
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from .command import EXIT_FAILED, EXIT_OK, Command, add_agent_flags, fail

#: How often the keyboard is looked at, and so the longest that `q` takes.
KEYBOARD_S = 0.1
#: Columns and rows where there is no terminal to ask.
PLAIN_SIZE = (100, 40)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take which agent, and how often."""
    add_agent_flags(parser)
    parser.add_argument(
        "--interval", metavar="SECONDS", type=float, default=1.0, help="time between two looks; default: 1"
    )


def run(options: argparse.Namespace) -> int:
    """Draw until q or Ctrl-C; where there is no terminal, print once."""
    from .agent_connection import NoAnswer

    try:
        if sys.stdout.isatty() and sys.stdin.isatty():
            return _live(options)
        return _once(options)
    except NoAnswer as error:
        return fail(str(error), error.status)
    except KeyboardInterrupt:
        return EXIT_OK


def _once(options: argparse.Namespace) -> int:
    """Print what two looks show: rates need both."""
    from rich.console import Console

    from ..top_view import draw
    from .agent_connection import follow_agent

    width, height = PLAIN_SIZE
    rates = _Rates()
    for number, message in enumerate(follow_agent(options, "watch", {"interval_s": options.interval})):
        rates.look(message)
        if number == 1:
            console = Console(width=int(os.environ.get("COLUMNS") or width), highlight=False)
            console.print(draw(message, rates.per_s, console.width, height))
            return EXIT_OK
    return fail("the agent said nothing", EXIT_FAILED)


def _live(options: argparse.Namespace) -> int:
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    from ..top_view import draw

    console = Console(highlight=False)
    messages = _Messages(options)
    rates = _Rates()
    with (
        _keys() as pressed,
        Live(Text("asking the agent …"), console=console, screen=True, auto_refresh=False) as live,
    ):
        message: dict[str, Any] | None = None
        size = None
        while "q" not in pressed():
            new = messages.newest()
            if new is not None:
                message = new
                rates.look(message)
            if message is not None and (new is not None or console.size != size):
                size = console.size
                live.update(draw(message, rates.per_s, size.width, size.height), refresh=True)
    return EXIT_OK


class _Rates:
    """Bytes a second between the last two looks."""

    def __init__(self) -> None:
        self.per_s: dict[str, float] = {}
        self._last: tuple[float, dict[str, int]] | None = None

    def look(self, message: dict[str, Any]) -> None:
        shipping = message["status"]["shipping"]
        at = float(message["status"]["agent"]["uptime_s"])
        counts = {"shipped": shipping.get("bytes_shipped", 0), "sent": shipping.get("bytes_sent", 0)}
        if self._last is not None and at > self._last[0]:
            before_at, before = self._last
            self.per_s = {name: max(0, counts[name] - before[name]) / (at - before_at) for name in counts}
        self._last = (at, counts)


class _Messages:
    """Follows the agent in a thread, since both it and the keyboard are waited for."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._queue: queue.SimpleQueue[dict[str, Any] | Exception] = queue.SimpleQueue()
        threading.Thread(target=self._follow, daemon=True).start()

    def newest(self) -> dict[str, Any] | None:
        """Return what came last since the last call, None when nothing did. Raise what ended it."""
        newest = None
        while True:
            try:
                got = self._queue.get_nowait()
            except queue.Empty:
                return newest
            if isinstance(got, Exception):
                raise got
            newest = got

    def _follow(self) -> None:
        from .agent_connection import NoAnswer, follow_agent

        try:
            for message in follow_agent(self._options, "watch", {"interval_s": self._options.interval}):
                self._queue.put(message)
        except Exception as error:  # noqa: BLE001 - raised again where the screen is
            self._queue.put(error)
        else:
            self._queue.put(NoAnswer("the agent said no more", EXIT_FAILED))


@contextmanager
def _keys() -> Iterator[Any]:
    """Let single keys be read; yields a function that waits a moment and returns those pressed."""
    fd = sys.stdin.fileno()
    before = termios.tcgetattr(fd)

    def pressed() -> str:
        ready, _, _ = select.select([fd], [], [], KEYBOARD_S)
        if not ready:
            return ""
        # Nothing to read on a terminal that says there is: it was closed.
        return os.read(fd, 64).decode("utf-8", "replace") or "q"

    try:
        tty.setcbreak(fd)
        yield pressed
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)


COMMAND = Command("top", "watch lanes, streams and the machine, live", add_arguments, run)
