"""tracker-agent sync: ship runs that were written offline, here or on another machine."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ..config import load_config
from .command import EXIT_FAILED, EXIT_NOT_RUNNING, EXIT_OK, Command, add_agent_flags, config_file, fail

if TYPE_CHECKING:
    pass

#: As a shell has it after Ctrl-C.
EXIT_INTERRUPTED = 130
_FLAGS = (
    ("--server", "url", "URL", "ship from here to this server, not through the agent"),
    ("--key-file", "key_file", "FILE", "file that holds the API key for it"),
    ("--ca-file", "ca_file", "FILE", "certificates of authorities to trust"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take what to ship, whereto, and whether to wait."""
    parser.add_argument(
        "directories", metavar="DIR", nargs="+", help="a run, a directory of runs, or a spool"
    )
    parser.add_argument("--wait", action="store_true", help="until the server has everything")
    for flag, name, metavar, text in _FLAGS:
        parser.add_argument(flag, dest=name, metavar=metavar, help=text)
    add_agent_flags(parser)


def run(options: argparse.Namespace) -> int:
    """Hand the directories to the agent that runs, or ship them from here where there is none to ask."""
    from ..run_directories import NoRuns, find_runs
    from .agent_connection import NoAnswer

    try:
        runs = [run for directory in options.directories for run in find_runs(directory)]
    except NoRuns as error:
        return fail(str(error))
    if not any(getattr(options, name) for _, name, _, _ in _FLAGS):
        try:
            return _hand_over(options)
        except NoAnswer as error:
            if error.status != EXIT_NOT_RUNNING and options.state_dir is not None:
                return fail(str(error), error.status)
            print("no agent here that may be asked: shipping from this process", file=sys.stderr)
    return _ship_here(options, list(dict.fromkeys(runs)))


def _hand_over(options: argparse.Namespace) -> int:
    """Let the running agent do it, and with --wait follow it. Raise NoAnswer when it cannot be asked."""
    from .agent_connection import follow_agent

    directories = [os.path.realpath(each) for each in options.directories]
    answers = follow_agent(options, "sync", {"directories": directories})
    first = next(answers, None)
    if first is None:
        return fail("the agent gave no answer")
    if not options.wait:
        print(
            f"handed over to the agent: {first['runs']} runs. It ships them beside its live ones and goes on "
            "after a restart. Follow it with the same command and --wait."
        )
        return EXIT_OK
    last = first
    try:
        with _shown() as show:
            for last in answers:
                show(last)
    except KeyboardInterrupt:
        print("no longer watching; the agent goes on", file=sys.stderr)
        return EXIT_INTERRUPTED
    return _verdict(last)


def _ship_here(options: argparse.Namespace, runs: list[Any]) -> int:
    from ..sync import sync_here

    flags = {("server", name): getattr(options, name) for _, name, _, _ in _FLAGS if getattr(options, name)}
    environment = dict(os.environ)
    # Training processes read these: who has set them for those need not name them again.
    for variable, name in (("TRACKER_BASE_URL", "url"), ("TRACKER_API_KEY", "key")):
        ours = f"TRACKER_AGENT_SERVER_{name.upper()}"
        if environment.get(variable) and ("server", name) not in flags and ours not in environment:
            if name != "key" or ("server", "key_file") not in flags:
                environment[ours] = environment[variable]
    config = load_config(config_file(options), environment, flags, os.geteuid())
    try:
        with _shown() as show:
            progress = asyncio.run(sync_here(config, runs, options.wait, lambda each: show(each.to_json())))
    except KeyboardInterrupt:
        print("stopped; the same command goes on where it was", file=sys.stderr)
        return EXIT_INTERRUPTED
    return _verdict(progress.to_json())


def _verdict(progress: dict[str, Any]) -> int:
    """Say what came of it."""
    for problem in progress["problems"]:
        print(f"  ! {problem}", file=sys.stderr)
    if not progress["done"]:
        return fail(
            f"{progress['bytes_shipped']:,} of {progress['bytes']:,} bytes are on the server: "
            f"{progress['waiting_for'] or 'interrupted'}. Nothing is lost: run the same command again, "
            "or let it wait with --wait"
        )
    shipped = f"{progress['shipped']} of {progress['streams']} streams of {progress['runs']} runs"
    if progress["problems"]:
        return fail(f"{shipped} are on the server whole; the rest stands above", EXIT_FAILED)
    still = f"; {progress['live']} are still being written" if progress["live"] else ""
    print(f"done: {shipped} are on the server whole, {progress['bytes']:,} bytes{still}")
    return EXIT_OK


@contextmanager
def _shown() -> Iterator[Callable[[dict[str, Any]], None]]:
    """Lend a function that shows progress: a bar on a terminal, else a line now and then."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )
    from rich.progress import Progress as Bar

    console = Console(stderr=True)
    columns: Iterable[Any] = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    if not console.is_terminal:
        yield _Lines(console.file)
        return
    with Bar(*columns, console=console, transient=True) as bar:
        task = bar.add_task("looking", total=None)

        def show(progress: dict[str, Any]) -> None:
            text = f"{progress['shipped']}/{progress['streams']} streams"
            if progress["files"]:
                text += f", files of {progress['files']} runs"
            if progress["waiting_for"]:
                text += f" · {progress['waiting_for'][:60]}"
            bar.update(
                task,
                description=text,
                completed=progress["bytes_shipped"],
                total=progress["bytes"] or None,
            )

        yield show


class _Lines:
    """Tells progress in lines, one for each tenth of it and each change of what it waits for."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self._told: tuple[int, str] | None = None

    def __call__(self, progress: dict[str, Any]) -> None:
        tenths = 10 * progress["bytes_shipped"] // max(1, progress["bytes"])
        news = (tenths, progress["waiting_for"])
        if news != self._told and progress["bytes"]:
            self._told = news
            waits = f", waiting: {news[1]}" if news[1] else ""
            print(
                f"{progress['bytes_shipped']:,} of {progress['bytes']:,} bytes, "
                f"{progress['shipped']} of {progress['streams']} streams{waits}",
                file=self._file,
                flush=True,
            )


COMMAND = Command("sync", "ship runs that were written offline, here or elsewhere", add_arguments, run)
