"""log() beside tensorboardX and wandb (offline), the same dict of ten floats, each in processes of its own.

One process measures one library, with the interpreter of .venv-peers (`make peers`):

    python -c "from bench.log_peers import main; main()" wandb DIRECTORY --calls 20000

Printed as JSON: quantiles of the call, memory that the library added to the process, memory of the
processes that it started, bytes on the disk per call.
"""

import argparse
import gc
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.log_cases import CASES, WARM_UP_CALLS, floor, quantiles_of, time_calls
from bench.recording import ROOT

#: Marks the processes that a library starts, whoever their parent is by then.
MARK = "TRACKER_BENCH_MARK"
KIB_PER_MIB = 1024
#: The files that hold what was logged, below the directory given to the library.
RECORDS = {"floor": "floor", "tracker": "**/*.mpl", "tensorboardX": "**/events.*", "wandb": "**/*.wandb"}


def compare_peers(python: Path, rounds: int, calls: int) -> dict[str, Any]:
    """Return each library's medians over the rounds, and their ratios to Tracker and to the floor."""
    found: dict[str, list[dict[str, float]]] = {name: [] for name in RECORDS}
    for number in range(rounds):
        for name in list(RECORDS)[:: 1 if number % 2 == 0 else -1]:
            found[name].append(measured_apart(python, name, calls))
    figures: dict[str, Any] = {"calls": calls}
    for name, each in found.items():
        figures[name] = {key: round(statistics.median(one[key] for one in each), 1) for key in each[0]}
    for name in list(RECORDS)[1:]:
        for other in ("floor", "tracker"):
            if name != other:
                ratios = [
                    one["p50 ns"] / base["p50 ns"]
                    for one, base in zip(found[name], found[other], strict=True)
                ]
                figures[f"{name} p50 / {other} p50"] = round(statistics.median(ratios), 2)
    return figures


def measured_apart(python: Path, name: str, calls: int) -> dict[str, float]:
    """Return what a process that uses one of them measured of itself."""
    with tempfile.TemporaryDirectory(prefix="tracker-bench-", ignore_cleanup_errors=True) as directory:
        program = "from bench.log_peers import main; main()"
        command = [python, "-c", program, name, directory, "--calls", str(calls)]
        environment = dict(
            os.environ,
            PYTHONPATH=f"{ROOT}{os.pathsep}{ROOT / 'shim' / 'src'}",
            TRACKER_DIR=directory,
            TRACKER_SILENT="1",
            **{MARK: directory},
        )
        answer = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if answer.returncode:
            raise RuntimeError(f"{name}: {answer.stderr[-2000:]}")
        return dict(json.loads(answer.stdout.splitlines()[-1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("library", choices=RECORDS)
    parser.add_argument("directory")
    parser.add_argument("--calls", type=int, default=20_000)
    options = parser.parse_args()
    values = CASES["10 scalars"].values()
    times = [0] * options.calls  # so that the list itself is not taken for the library's memory
    gc.collect()
    before = rss_kib(os.getpid())
    with WRITERS[options.library](options.directory, values) as call:
        for step in range(WARM_UP_CALLS):
            call(step)
        gc.collect()
        times[:] = time_calls(call, options.calls, None)
        gc.collect()
        own = rss_kib(os.getpid()) - before
        others = sum(rss_kib(pid) for pid in marked_processes(os.environ.get(MARK, "")))
        size = recorded_bytes(Path(options.directory), options.library)
    size = max(size, recorded_bytes(Path(options.directory), options.library))  # some write it all at the end
    figures = {f"{quantile} ns": value for quantile, value in quantiles_of(times).items()}
    figures["memory added MiB"] = own / KIB_PER_MIB
    figures["memory of its processes MiB"] = others / KIB_PER_MIB
    figures["bytes per call"] = size / (options.calls + WARM_UP_CALLS)
    # Beyond what a run without console capture would have printed.
    os.write(1, (json.dumps(figures) + "\n").encode())


@contextmanager
def tracker_log(directory: str, values: dict[str, Any]) -> Iterator[Callable[[int], None]]:
    """As a training does by default: with the process beside it for console and code."""
    import tracker

    run = tracker.init(project="bench")
    yield lambda step: tracker.log(values, step=step)
    assert run.lost == 0
    tracker.finish()


@contextmanager
def tensorboard_x(directory: str, values: dict[str, Any]) -> Iterator[Callable[[int], None]]:
    from tensorboardX import SummaryWriter

    writer = SummaryWriter(directory)

    def call(step: int) -> None:
        for name, value in values.items():
            writer.add_scalar(name, value, step)

    yield call
    writer.close()


@contextmanager
def wandb_offline(directory: str, values: dict[str, Any]) -> Iterator[Callable[[int], None]]:
    import wandb

    run = wandb.init(project="bench", mode="offline", dir=directory, settings=wandb.Settings(silent=True))
    yield lambda step: run.log(values, step=step)
    run.finish()


WRITERS: dict[str, Callable[[str, dict[str, Any]], Any]] = {
    "floor": floor,
    "tracker": tracker_log,
    "tensorboardX": tensorboard_x,
    "wandb": wandb_offline,
}


def recorded_bytes(directory: Path, name: str) -> int:
    return sum(path.stat().st_size for path in directory.glob(RECORDS[name]))


def rss_kib(pid: int) -> int:
    """Return the resident memory of a process; 0 where it is gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    for line in status.splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    return 0


def marked_processes(mark: str) -> list[int]:
    """Return the other processes whose environment carries the mark."""
    wanted = f"{MARK}={mark}".encode()
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        pid = int(path.parent.name)
        try:
            if pid != os.getpid() and wanted in path.read_bytes().split(b"\0"):
                found.append(pid)
        except OSError:
            continue
    return found


if sys.platform != "linux":
    raise SystemExit("memory is read from /proc: Linux only")
