"""Run many simulations, or replay one:

    python -m tests.model.simulate --seeds 10000 --jobs 2
    python -m tests.model.simulate --replay 4711

Prints progress, a table of how often each fault struck, and for each seed that failed the line that replays
it. Exit status 1 when a seed failed, 2 when some kind of fault never struck.
"""

from __future__ import annotations

import argparse
import gc
import multiprocessing
import sys
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from tests.model.simulator.faults import NAMES
from tests.model.simulator.simulation import Outcome, simulate

#: Seeds that one task of the pool runs.
SEEDS_PER_TASK = 50
#: With fewer seeds a rare fault may by chance never strike.
SEEDS_FOR_ALL_FAULTS = 1000


@dataclass
class Total:
    """What many seeds came to."""

    seeds: int = 0
    events: int = 0
    events_least: int = 10**9
    fired: Counter[str] = field(default_factory=Counter)
    failed: list[Outcome] = field(default_factory=list)

    def add(self, outcome: Outcome) -> None:
        """Count one outcome."""
        self.seeds += 1
        self.events += outcome.events
        if outcome.problem is None:
            self.events_least = min(self.events_least, outcome.events)
        else:
            self.failed.append(outcome)
        self.fired.update(outcome.fired)

    def never_fired(self) -> list[str]:
        """Return the faults that never struck."""
        return [name for name in NAMES if not self.fired[name]]


def run_seeds(seeds: Iterable[int]) -> list[Outcome]:
    """Run some seeds in this process."""
    gc.freeze()  # what is there now is never garbage: collecting after each seed is cheap
    return [simulate(seed) for seed in seeds]


def run_in_parallel(first: int, seeds: int, jobs: int, progress: bool) -> Total:
    """Run seeds in several processes."""
    total = Total()
    chunks = [
        range(start, min(start + SEEDS_PER_TASK, first + seeds))
        for start in range(first, first + seeds, SEEDS_PER_TASK)
    ]
    began = shown = time.monotonic()
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        for outcomes in pool.imap_unordered(run_seeds, chunks):
            for outcome in outcomes:
                total.add(outcome)
                if outcome.problem is not None:
                    print(describe(outcome), flush=True)
            if progress and time.monotonic() - shown > 5.0:
                shown = time.monotonic()
                rate = total.seeds / (shown - began)
                print(f"{total.seeds} of {seeds} seeds, {rate:.0f} per second", flush=True)
    return total


def describe(outcome: Outcome) -> str:
    """Return what failed, and how to see it again."""
    return f"FAILED: {outcome.problem}\n    replay: python -m tests.model.simulate --replay {outcome.seed}"


def replay(seed: int) -> int:
    """Run one seed and print its log."""
    outcome = simulate(seed, keep_log=True)
    print("\n".join(outcome.log or ()))
    print(f"seed {seed}: {outcome.events} events, digest {outcome.digest:08x}")
    if outcome.problem is not None:
        print(describe(outcome))
    return 0 if outcome.problem is None else 1


def main() -> int:
    """Return the exit status."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--seeds", type=int, default=1000)
    options.add_argument("--first", type=int, default=0)
    options.add_argument("--jobs", type=int, default=2)
    options.add_argument("--replay", type=int, metavar="SEED")
    arguments = options.parse_args()
    if arguments.replay is not None:
        return replay(arguments.replay)
    began = time.monotonic()
    total = run_in_parallel(arguments.first, arguments.seeds, arguments.jobs, progress=True)
    print(f"\n{'fault':24} struck")
    for name in NAMES:
        print(f"{name:24} {total.fired[name]}")
    print(
        f"\n{total.seeds} seeds, {total.events} events (at least {total.events_least} each), "
        f"{len(total.failed)} failed, {time.monotonic() - began:.0f} s"
    )
    for outcome in total.failed:
        print(describe(outcome))
    never = total.never_fired()
    if never:
        print(f"never struck: {', '.join(never)}")
    if total.failed:
        return 1
    return 2 if never and total.seeds >= SEEDS_FOR_ALL_FAULTS else 0


if __name__ == "__main__":
    sys.exit(main())
