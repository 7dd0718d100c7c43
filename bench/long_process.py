"""The records of a day from one process: flat memory, rolling segments, no more descriptors than at first.

    python bench/long_process.py [--records 50000000] [--scalars 3]

50 million records are 580 a second for 24 hours; here they are logged at full speed. Another process
does what the agent would: it checks and counts the lines of every segment that is complete, and removes
it. At the end each record must have been counted. Memory and descriptors are those of the logging
process, at every 2 % of the way.
Target: less than 1 MiB more memory at the end than after the first tenth.
"""

import argparse
import json
import multiprocessing
import os
import sys
import tempfile
from multiprocessing.synchronize import Event
from pathlib import Path
from time import perf_counter, sleep
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import tracker
from bench.recording import record
from tracker.protocol.codec import Seeds, scan_lines
from tracker.protocol.header import read_header
from tracker.protocol.kinds import METRICS
from tracker.protocol.layout import parse_segment_name

SAMPLES = 50
GROWTH_MIB_MAX = 1.0
KIB_PER_MIB = 1024
LOOK_INTERVAL_S = 0.2
#: Full segments that may lie there unread before logging waits for the reader: the disk is not ours to fill.
SEGMENTS_AHEAD_MAX = 16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--records", type=int, default=50_000_000)
    parser.add_argument("--scalars", type=int, default=3)
    parser.add_argument("--no-record", action="store_true", help="print the figures, keep none")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tracker-bench-", ignore_cleanup_errors=True) as directory:
        figures = measure(Path(directory), options.records, options.scalars)
    if options.no_record:
        print(json.dumps(figures, indent=2))
    else:
        record("long_process", figures)
    if not all(figures["targets met"].values()):
        raise SystemExit("a target was missed")


def measure(directory: Path, records: int, scalars: int) -> dict[str, Any]:
    """Log so many records and return what became of them and of the process."""
    context = multiprocessing.get_context("spawn")
    ended, answer = context.Event(), context.Queue()
    reader = context.Process(target=read_and_remove, args=(str(directory), ended, answer))
    reader.start()
    os.environ.update(
        TRACKER_DIR=str(directory), TRACKER_SILENT="1", TRACKER_CONSOLE="off", TRACKER_DISABLE_CODE="1"
    )
    run = tracker.init(project="bench")
    values = {f"train/metric_{number}": 0.5 for number in range(scalars)}
    samples: list[tuple[int, int]] = []
    logged = waited_s = 0.0
    began = perf_counter()
    for part in range(SAMPLES):
        count = records // SAMPLES + (records % SAMPLES if part == 0 else 0)
        log_records(values, count)
        logged += count
        samples.append((resident_kib(), open_descriptors()))
        waited_s += wait_for_reader(directory)
    taken = perf_counter() - began - waited_s
    lost = run.lost
    tracker.finish()
    ended.set()
    found = answer.get()
    reader.join()
    memory = [kib / KIB_PER_MIB for kib, _ in samples]
    descriptors = [count for _, count in samples]
    growth = memory[-1] - memory[SAMPLES // 10]
    return {
        "records": int(logged),
        "seconds": round(taken, 1),
        "records per second": round(logged / taken),
        "lost": lost,
        "records read back": found["records"],
        "bytes": found["bytes"],
        "segments": found["segments"],
        "most segments at once": found["most at once"],
        "memory MiB after 2 %": round(memory[0], 2),
        "memory MiB after 10 %": round(memory[SAMPLES // 10], 2),
        "memory MiB at the end": round(memory[-1], 2),
        "memory MiB at most": round(max(memory), 2),
        "descriptors": f"{min(descriptors)} to {max(descriptors)}",
        "targets met": {
            "memory flat": growth < GROWTH_MIB_MAX,
            "descriptors flat": min(descriptors) == max(descriptors),
            "nothing missing": found["records"] == logged and not lost and not found["problems"],
        },
        "problems": found["problems"],
    }


def log_records(values: dict[str, float], count: int) -> None:
    """Log so many records that all differ a little, as a training's do."""
    log = tracker.log
    first = next(iter(values))
    for number in range(count):
        values[first] = number * 0.001
        log(values)


def wait_for_reader(directory: Path) -> float:
    """Return for how long the reader had to be waited for, s."""
    began = perf_counter()
    while len(list(directory.glob("*/*/*.mpl"))) > SEGMENTS_AHEAD_MAX:
        sleep(LOOK_INTERVAL_S)
    return perf_counter() - began


def read_and_remove(directory: str, ended: Event, answer: Any) -> None:
    """Count the lines of segments that are complete, and remove them, until the run has ended."""
    found: dict[str, Any] = {"records": 0, "bytes": 0, "segments": 0, "most at once": 0, "problems": []}
    position = 0
    while True:
        over = ended.is_set()
        paths = sorted(Path(directory).glob("*/*/*.mpl"))
        found["most at once"] = max(found["most at once"], len(paths))
        for path in paths if over else paths[:-1]:
            data = path.read_bytes()
            header, offset = read_header(data)
            if header.base != position:
                found["problems"].append(f"{path.name}: base {header.base}, not {position}")
            position = header.base + len(data)
            name = parse_segment_name(path.name)
            assert name is not None
            counted, offset = count_lines(data, offset, Seeds(*name))
            found["records"] += counted
            if offset != len(data):
                found["problems"].append(f"{path.name}: damaged at {offset}")
            found["bytes"] += len(data)
            found["segments"] += 1
            path.unlink()
        if over:
            break
        sleep(LOOK_INTERVAL_S)
    answer.put(found)


def count_lines(data: bytes, offset: int, seeds: Seeds) -> tuple[int, int]:
    """Return how many METRICS there are behind the HEADER, and how far the data is whole lines."""
    scanned = scan_lines(data[offset:], seeds)
    return sum(kind == METRICS for kind, _, _ in scanned.lines), offset + scanned.end


def resident_kib() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise RuntimeError("/proc/self/status has no VmRSS")


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


if __name__ == "__main__":
    main()
