"""How much slower log() is than packing the same values and writing them to a file.

    python bench/log_call.py [--rounds 5] [--calls 200000]

Rounds of both alternate; each figure is the median over the rounds of log()'s quantile divided
by that of `os.write(fd, msgpack.packb([time, step, values]))`. Also: what `import tracker` costs
beyond a bare Python with msgpack. Everything is written below a temporary directory and removed.
"""

import argparse
import gc
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from time import perf_counter_ns, time_ns

import msgpack

import tracker
from bench.recording import record

VALUES = {f"train/metric_{number}": 0.1234567 * (number + 1) for number in range(10)}
TARGETS = {"p50 ratio": 2.5, "p99.9 ratio": 3.0, "import ms": 20.0}
IMPORT_PROCESSES = 15


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--calls", type=int, default=200_000)
    arguments = parser.parse_args()
    figures: dict[str, object] = {"rounds": arguments.rounds, "calls": arguments.calls}
    figures["log"] = compare_log(arguments.rounds, arguments.calls)
    figures["import"] = measure_import()
    figures["targets"] = TARGETS
    record("log_call", figures)


def compare_log(rounds: int, calls: int) -> dict[str, object]:
    """Return quantiles of both, their ratios and the spread of the ratios over the rounds."""
    directory = tempfile.mkdtemp(prefix="tracker-bench-")
    os.environ.update(TRACKER_DIR=directory, TRACKER_SILENT="1")
    ratios: dict[str, list[float]] = {"p50": [], "p99.9": []}
    times: dict[str, list[int]] = {}
    try:
        for number in range(rounds):
            # Who goes first alternates, so that a machine that slows down favours neither.
            order = [("baseline", time_baseline), ("log", lambda _, calls: time_log(calls))][
                :: 1 if number % 2 == 0 else -1
            ]
            taken = {name: time_round(directory, calls) for name, time_round in order}
            for quantile, place in (("p50", 0.5), ("p99.9", 0.999)):
                found = {name: values[int(place * calls)] for name, values in taken.items()}
                ratios[quantile].append(found["log"] / found["baseline"])
                for name, value in found.items():
                    times.setdefault(f"{name} {quantile} ns", []).append(value)
    finally:
        shutil.rmtree(directory)
    figures: dict[str, object] = {name: statistics.median(values) for name, values in sorted(times.items())}
    for quantile, values in ratios.items():
        figures[f"{quantile} ratio"] = round(statistics.median(values), 3)
        figures[f"{quantile} ratio spread"] = f"{min(values):.3f} to {max(values):.3f}"
    return figures


def time_baseline(directory: str, calls: int) -> list[int]:
    """Return the sorted times of packing and writing, ns."""
    path = os.path.join(directory, "baseline")
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    packb, write = msgpack.packb, os.write

    def call(step: int) -> None:
        write(fd, packb([time_ns(), step, VALUES]))

    try:
        return time_calls(call, calls)
    finally:
        os.close(fd)
        os.unlink(path)


def time_log(calls: int) -> list[int]:
    """Return the sorted times of tracker.log, ns."""
    run = tracker.init(project="bench")

    def call(step: int) -> None:
        tracker.log(VALUES, step=step)

    try:
        return time_calls(call, calls)
    finally:
        lost = run.lost
        tracker.finish()
        shutil.rmtree(run.dir)
        assert lost == 0


def time_calls(call: Callable[[int], None], calls: int) -> list[int]:
    """Return how long each of so many calls took, sorted, ns."""
    for step in range(1000):
        call(step)
    gc.collect()
    times = [0] * calls
    for step in range(calls):
        started = perf_counter_ns()
        call(step)
        times[step] = perf_counter_ns() - started
    return sorted(times)


def measure_import() -> dict[str, object]:
    """Return the median times of fresh processes with msgpack alone and with tracker, ms."""
    times: dict[str, list[float]] = {"msgpack": [], "tracker": []}
    for _ in range(IMPORT_PROCESSES):
        for module, taken in times.items():
            started = perf_counter_ns()
            subprocess.run([sys.executable, "-c", f"import msgpack, {module}"], check=True)
            taken.append((perf_counter_ns() - started) / 1e6)
    medians = {name: statistics.median(taken) for name, taken in times.items()}
    return {
        "python + msgpack ms": round(medians["msgpack"], 2),
        "python + msgpack + tracker ms": round(medians["tracker"], 2),
        "import ms": round(medians["tracker"] - medians["msgpack"], 2),
    }


if __name__ == "__main__":
    main()
