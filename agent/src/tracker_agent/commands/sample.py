"""tracker-agent sample: what collectors bring, right here, without an agent or a server."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from .command import EXIT_FAILED, EXIT_OK, EXIT_USAGE, Command, add_config_flag, fail

if TYPE_CHECKING:
    from ..collectors.collector import Collector
    from ..sample_view import Taken

#: Between the sample that rates need and the first one shown, where nobody says otherwise.
INTERVAL_S = 1.0
INTERVAL_MIN_S = 0.1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take which collectors, how often, and from which machine's files."""
    parser.add_argument("names", metavar="NAME", nargs="*", help="collectors; default: as an agent chooses")
    parser.add_argument(
        "--collector", metavar="NAME", action="append", default=[], help="the same as NAME; repeatable"
    )
    parser.add_argument("--json", action="store_true", help="a line of JSON for each sample of a collector")
    parser.add_argument(
        "--count", metavar="N", type=int, default=1, help="samples to show; default: 1; 0: until Ctrl-C"
    )
    parser.add_argument(
        "--interval",
        metavar="SECONDS",
        type=float,
        default=INTERVAL_S,
        help="time between two samples; default: 1",
    )
    parser.add_argument("--root", metavar="DIR", default="/", help="where proc and sys are; default: /")
    add_config_flag(parser)


def run(options: argparse.Namespace) -> int:
    """Sample until enough is shown or Ctrl-C. It failed when what was asked for brought nothing."""
    from ..collectors.chosen import COLLECTORS
    from ..config_file import suggestion
    from ..sample_view import print_json, print_table

    names = list(dict.fromkeys([*options.names, *options.collector]))
    for name in names:
        if name not in COLLECTORS:
            return fail(f"there is no collector {name!r}; {suggestion(name, list(COLLECTORS))}", EXIT_USAGE)
    if not options.interval >= INTERVAL_MIN_S or options.count < 0:
        return fail(f"--interval must be at least {INTERVAL_MIN_S:g}, --count at least 0", EXIT_USAGE)
    if not os.path.isdir(os.path.join(options.root, "proc")):
        return fail(f"there is no directory proc in {options.root}; --root is what stands for /", EXIT_USAGE)
    collectors = _collectors(options, names)
    brought: set[str] = set()
    try:
        for samples in _rounds(collectors, options.count, options.interval):
            brought |= {each.name for each in samples if each.reading is not None}
            (print_json if options.json else print_table)(samples)
    except KeyboardInterrupt:
        pass
    finally:
        for collector in collectors:
            collector.close()
    return EXIT_OK if brought and brought.issuperset(names) else EXIT_FAILED


def _collectors(options: argparse.Namespace, names: Sequence[str]) -> list[Collector]:
    """Return the collectors that are named, else those that an agent would run."""
    from ..collectors.chosen import COLLECTORS, build_collectors
    from ..collectors.collector import Context
    from ..collectors.kernel import Kernel
    from ..config import load_config
    from ..settings import Config

    config = Config()
    if options.config is not None:
        config = load_config(options.config, os.environ, {}, os.geteuid())
    context = Context(kernel=Kernel(options.root))
    if not names:
        return build_collectors(config.sampler, config.collectors, context)
    return [
        COLLECTORS[name](replace(context, settings=config.section(f"collectors.{name}"))) for name in names
    ]


def _rounds(collectors: Sequence[Collector], count: int, interval_s: float) -> Iterator[list[Taken]]:
    """Yield the samples of all collectors, count times, or for ever where that is 0."""
    from ..sample_view import take

    due = time.monotonic()
    # Rates need a sample before the first that is shown.
    for collector in collectors:
        take(collector)
    shown = 0
    while shown < count or not count:
        due += interval_s
        time.sleep(max(0.0, due - time.monotonic()))
        yield [take(collector) for collector in collectors]
        shown += 1


COMMAND = Command("sample", "measure this machine once, here, and show what came", add_arguments, run)
