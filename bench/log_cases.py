"""What log_call.py times against the floor: dicts of several sizes and types, threads, company.

One process measures one case, in the interpreter that has what it needs (torch, say):

    python -c "from bench.log_cases import main; main()" CASE --rounds 5 --calls 200000

and prints its figures as JSON. The floor is `os.write(fd, msgpack.packb([time, step, values]))`, of the
numbers in values; rounds of both alternate, and a ratio is the median over the rounds.
"""

import argparse
import gc
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter_ns, time_ns
from typing import Any

import msgpack

WARM_UP_CALLS = 1000
THREADS = 8
#: Going through so much takes about 1 ms, and leaves nothing else in the caches near a core.
COMPUTED_BYTES = 4 * 2**20
#: A file of this size is written again and again, and waited for, while others log.
WRITTEN_BACK_BYTES = 256 * 2**20
QUANTILES = {"p50": 0.5, "p99.9": 0.999}

WRITE_BACK = """
import os, sys
fd = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT)
block = os.urandom(2**20)
while True:
    os.lseek(fd, 0, os.SEEK_SET)
    for _ in range(int(sys.argv[2]) >> 20):
        os.write(fd, block)
    os.fdatasync(fd)
"""


@dataclass(frozen=True)
class Case:
    """One thing to measure. calls: those of a round, as a share of what was asked for."""

    scalars: int = 10
    kind: str = "float"
    calls: float = 1.0
    threads: int = 1
    compute: bool = False
    writeback: bool = False

    def values(self) -> dict[str, Any]:
        """Return the dict that is logged."""
        plain = {f"train/metric_{number}": 0.1234567 * (number + 1) for number in range(self.scalars)}
        if self.kind == "float":
            return plain
        if self.kind == "numpy":
            import numpy as np

            return {name: np.float32(value) for name, value in plain.items()}
        import torch

        return {name: torch.tensor(value) for name, value in plain.items()}


CASES = {
    "1 scalar": Case(1),
    "10 scalars": Case(10),
    "100 scalars": Case(100, calls=0.25),
    "1000 scalars": Case(1000, calls=0.05),
    "10 numpy scalars": Case(kind="numpy", calls=0.25),
    "10 torch scalars": Case(kind="torch", calls=0.25),
    "8 threads": Case(threads=THREADS),
    "1 ms between": Case(calls=0.02, compute=True),
    "writeback": Case(writeback=True),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("case", choices=CASES)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--calls", type=int, default=200_000)
    options = parser.parse_args()
    case = CASES[options.case]
    print(json.dumps(measure(case, options.rounds, max(1000, int(options.calls * case.calls)))))


def measure(case: Case, rounds: int, calls: int) -> dict[str, Any]:
    """Return quantiles of both, their ratios and the spread of the ratios over the rounds."""
    times: dict[str, list[float]] = {}
    ratios: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory(prefix="tracker-bench-") as directory:
        os.environ.update(
            TRACKER_DIR=directory, TRACKER_SILENT="1", TRACKER_CONSOLE="off", TRACKER_DISABLE_CODE="1"
        )
        with heavy_writeback(directory) if case.writeback else nullcontext():
            for number in range(rounds):
                # Who goes first alternates, so that a machine that slows down favours neither.
                order = [("floor", floor), ("log", tracker_log)][:: 1 if number % 2 == 0 else -1]
                found = {name: time_round(writer, directory, case, calls) for name, writer in order}
                for quantile in found["log"]:
                    ratios.setdefault(quantile, []).append(found["log"][quantile] / found["floor"][quantile])
                    for name, quantiles in found.items():
                        times.setdefault(f"{name} {quantile} ns", []).append(quantiles[quantile])
    figures: dict[str, Any] = {"calls": calls}
    figures |= {name: round(statistics.median(values)) for name, values in sorted(times.items())}
    for quantile, values in ratios.items():
        figures[f"{quantile} ratio"] = round(statistics.median(values), 3)
        figures[f"{quantile} ratio spread"] = f"{min(values):.3f} to {max(values):.3f}"
    return figures


@contextmanager
def floor(directory: str, values: dict[str, Any]) -> Iterator[Callable[[int], None]]:
    """Pack and write, nothing else."""
    fd = os.open(os.path.join(directory, "floor"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    packb, write = msgpack.packb, os.write
    items = [item for item in values.values() if hasattr(item, "item")]

    def call(step: int) -> None:
        write(fd, packb([time_ns(), step, values]))

    def call_with_items(step: int) -> None:
        write(fd, packb([time_ns(), step, {name: value.item() for name, value in values.items()}]))

    try:
        yield call_with_items if items else call
    finally:
        os.close(fd)
        os.unlink(os.path.join(directory, "floor"))


@contextmanager
def tracker_log(directory: str, values: dict[str, Any]) -> Iterator[Callable[[int], None]]:
    """Log to a run of its own."""
    import tracker

    run = tracker.init(project="bench")

    def call(step: int) -> None:
        tracker.log(values, step=step)

    try:
        yield call
    finally:
        lost = run.lost
        tracker.finish()
        for path in Path(directory).rglob("*.mpl"):
            path.unlink()
        assert lost == 0


def time_round(writer: Callable[..., Any], directory: str, case: Case, calls: int) -> dict[str, float]:
    """Return quantiles of the calls of one round, ns; of threads, also the time per call of all together."""
    with writer(directory, case.values()) as call:
        for step in range(WARM_UP_CALLS):
            call(step)
        gc.collect()
        if case.threads > 1:
            return time_threads(call, calls, case.threads)
        return quantiles_of(time_calls(call, calls, compute if case.compute else None))


def time_calls(call: Callable[[int], None], calls: int, between: Callable[[], object] | None) -> list[int]:
    """Return how long each of so many calls took, ns."""
    times = [0] * calls
    for number in range(calls):
        if between is not None:
            between()
        step = WARM_UP_CALLS + number
        started = perf_counter_ns()
        call(step)
        times[number] = perf_counter_ns() - started
    return times


def time_threads(call: Callable[[int], None], calls: int, threads: int) -> dict[str, float]:
    """Return quantiles of calls from many threads at once, and the wall time per call."""
    times: list[list[int]] = [[] for _ in range(threads)]
    start = threading.Barrier(threads + 1)

    def work(number: int) -> None:
        start.wait()
        times[number] = time_calls(call, calls // threads, None)

    workers = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
    for worker in workers:
        worker.start()
    start.wait()
    began = perf_counter_ns()
    for worker in workers:
        worker.join()
    wall = perf_counter_ns() - began
    return quantiles_of([time for each in times for time in each]) | {"wall per call": wall / calls}


def quantiles_of(times: list[int]) -> dict[str, float]:
    ordered = sorted(times)
    return {name: float(ordered[int(place * len(ordered))]) for name, place in QUANTILES.items()}


_computed = bytes(COMPUTED_BYTES)


def compute() -> int:
    """Keep the processor busy for about 1 ms."""
    return zlib.crc32(_computed)


@contextmanager
def heavy_writeback(directory: str) -> Iterator[None]:
    """Have another process write to the same file system, as fast as the disk takes it."""
    path = os.path.join(directory, "written-back")
    command = [sys.executable, "-c", WRITE_BACK, path, str(WRITTEN_BACK_BYTES)]
    with subprocess.Popen(command) as writer:
        try:
            yield
        finally:
            writer.kill()
