"""Compares what the nvidia collector says of this machine's GPUs with nvidia-smi, while the first one works.

    make gpu-check
    PYTHONPATH=shim/src:agent/src python3 -m bench.gpu_check [--seconds 60] [--load-python python3]

The second form needs no make: only a Python with the packages of agent/pyproject.toml. PyTorch is used for
the load where --load-python (or this Python) has it; else a small CUDA kernel; else the GPU stays idle.
Exit status: 0 all shared values agree, 1 some do not, 2 there is no GPU here.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.gpu_family import children_of, cpu_s, rss_mib
from bench.gpu_values import FIELDS, GPM, GPM_WITHIN, THROTTLE, Comparison
from bench.nvidia_smi import NoGpu, NvidiaSmi, Table
from bench.recording import RESULTS, record
from tracker_agent.collectors.collector import CollectorError, NothingHere, Reading
from tracker_agent.collectors.nvidia import NvidiaCollector

INTERVAL_S = 2.0
#: A library of CUDA takes its time to load.
LOAD_START_S = 120.0
#: The first samples have no rates yet, and the load has just begun.
WARM_SAMPLES = 3
#: However slow nvidia-smi is, so many more are compared.
SAMPLES_MIN = 3
Samples = list[tuple[float, Reading, Table, Table]]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the check; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long to compare")
    parser.add_argument("--interval", type=float, default=INTERVAL_S, help="seconds between two samples")
    parser.add_argument("--load-python", default="python3", help="a Python that may have PyTorch")
    parser.add_argument("--no-load", action="store_true", help="leave the GPU as it is")
    parser.add_argument("--nvidia-smi", default="nvidia-smi", help="the program to compare with")
    parser.add_argument("--results", type=Path, default=RESULTS, help="directory for gpu_check.json")
    options = parser.parse_args(arguments)
    smi = NvidiaSmi((options.nvidia_smi,))
    try:
        gpus = smi.gpus()
        with load(options.load_python, options.no_load) as load_name:
            figures = check(smi, options.seconds, options.interval)
    except (NoGpu, NothingHere) as reason:
        print(f"gpu-check needs a machine with an NVIDIA GPU, its driver and nvidia-smi: {reason}.")
        return 2
    except CollectorError as error:
        print(f"gpu-check: the collector failed: {error}.")
        return 1
    figures |= {"gpus": gpus, "load": load_name, "tracker_agent_sample": sampled_by_command()}
    record("gpu_check", figures, options.results)
    if figures["disagree"] or figures["only_nvidia_smi"] or not figures["compared"]:
        print("gpu-check: NOT all values agree; see `disagree` and `only_nvidia_smi` above.")
        return 1
    print(f"gpu-check: all {figures['compared']} shared values agree.")
    return 0


def check(smi: NvidiaSmi, seconds: float, interval_s: float) -> dict[str, Any]:
    """Compare for a while; return the figures. Raise NoGpu, NothingHere."""
    collector = NvidiaCollector()
    try:
        collector.sample()  # opens the driver, which may take seconds
        meter = Meter()
        gpm: dict[int, dict[int, float]] = {}
        gpm_s = max(2, int(seconds))
        beside = threading.Thread(target=lambda: gpm.update(smi.gpm(tuple(GPM), gpm_s)))
        beside.start()
        samples = sample_beside(collector, smi, meter, seconds, interval_s)
        beside.join()
        cost = meter.figures()
    finally:
        collector.close()
    comparison = compare(samples, gpm)
    offered = {name for _, reading, _, _ in samples for name in reading.values}
    problems = sorted({problem for _, reading, _, _ in samples for problem in reading.problems})
    return {
        "samples": len(samples),
        "compared": len(comparison.verdicts),
        "disagree": comparison.disagreeing(),
        "only_nvidia_smi": comparison.missing_of_ours,
        "only_tracker": sorted(comparison.only_ours),
        "not_offered_by_this_card": not_offered(offered),
        "unknown_to_this_nvidia_smi": smi.unknown,
        "problems": problems,
        "inventory": next((r.inventory for _, r, _, _ in reversed(samples) if r.inventory), None),
        "cost": cost,
        "verdicts": {name: verdict.shown() for name, verdict in sorted(comparison.verdicts.items())},
    }


def sample_beside(
    collector: NvidiaCollector, smi: NvidiaSmi, meter: Meter, seconds: float, interval_s: float
) -> Samples:
    """Sample for some seconds, with a question to nvidia-smi before and after each."""
    samples: Samples = []
    ends = time.monotonic() + seconds
    due = time.monotonic()
    before = smi.query(FIELDS)
    while time.monotonic() < ends or len(samples) < WARM_SAMPLES + SAMPLES_MIN:
        with meter.sample():
            reading = collector.sample()
        at = time.monotonic()
        after = smi.query(FIELDS)
        samples.append((at, reading, before, after))
        due = max(due + interval_s, time.monotonic())
        time.sleep(max(0.0, due - time.monotonic()))
        before = smi.query(FIELDS)
    return samples[WARM_SAMPLES:]


def compare(samples: Samples, gpm: dict[int, dict[int, float]]) -> Comparison:
    """Return how our samples and nvidia-smi's answers, sample by sample and on the whole, get on."""
    comparison = Comparison()
    for _, reading, before, after in samples:
        comparison.compare(reading.values, before, after)
    (began, _, first, _), (ended, _, _, last) = samples[0], samples[-1]
    for uuid in first.keys() & last.keys():
        index = first[uuid].get("index")
        if not isinstance(index, float):
            continue
        prefix = f"host.gpu.{int(index)}."
        for name, counter in THROTTLE.items():
            one, two = first[uuid].get(counter), last[uuid].get(counter)
            if isinstance(one, float) and isinstance(two, float) and two >= one:
                percent = 100 * (two - one) / 1e6 / (ended - began)
                comparison.compare_means(prefix + name, values_of(samples, prefix + name), percent, 5.0, 0.1)
        drawn = [row[uuid].get("power.draw.average") for _, _, row, _ in samples if uuid in row]
        watts = [each for each in drawn if isinstance(each, float)]
        if watts:
            name = prefix + "power.mean.watts"
            comparison.compare_means(name, values_of(samples, name), statistics.fmean(watts), 10.0, 0.07)
        for number, mean in gpm.get(int(index), {}).items():
            name = prefix + GPM[number]
            comparison.compare_means(name, values_of(samples, name), mean, GPM_WITHIN, 0.15)
    return comparison


def values_of(samples: Samples, name: str) -> list[float]:
    """Return all values of one name."""
    return [reading.values[name] for _, reading, _, _ in samples if name in reading.values]


def not_offered(offered: set[str]) -> list[str]:
    """Return the metrics of the table that no GPU here gave."""
    plain = {".".join("#" if part.isdigit() else part for part in name.split(".")) for name in offered}
    return sorted(metric.name for metric in NvidiaCollector.metrics if metric.name not in plain)


class Meter:
    """What the samples cost: time, processor time of this process and of the child, memory."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._walls: list[float] = []
        self._cpus: list[float] = []
        self._children = children_of(os.getpid())
        self._children_before = self._children_cpu_s()

    @contextmanager
    def sample(self) -> Iterator[None]:
        """Measure one sample."""
        wall, cpu = time.perf_counter(), time.thread_time()
        yield
        self._cpus.append(time.thread_time() - cpu)
        self._walls.append(time.perf_counter() - wall)

    def figures(self) -> dict[str, Any]:
        """Return plain JSON values."""
        count = len(self._walls)
        child_cpu_s = self._children_cpu_s() - self._children_before
        elapsed_s = time.monotonic() - self._began
        return {
            "sample_ms_p50": round(1000 * statistics.median(self._walls), 3),
            "sample_ms_max": round(1000 * max(self._walls), 3),
            "agent_cpu_ms_per_sample": round(1000 * sum(self._cpus) / count, 3),
            "child_cpu_ms_per_sample": round(1000 * child_cpu_s / count, 3),
            "cpu_percent_of_one_core": round(100 * (sum(self._cpus) + child_cpu_s) / elapsed_s, 3),
            "agent_rss_mib": rss_mib([os.getpid()]),
            "child_rss_mib": rss_mib(self._children),
            "children": len(self._children),
        }

    def _children_cpu_s(self) -> float:
        return cpu_s(self._children)


@contextmanager
def load(python: str, off: bool) -> Iterator[str]:
    """Keep the first GPU busy; yield what with."""
    if off:
        yield "none"
        return
    process = subprocess.Popen(
        [python, "-c", "import gpu_load; gpu_load.main()"],
        cwd=Path(__file__).parent,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    output = process.stdout
    said: list[str] = []
    # A GPU that hangs must not hang the check: it is not waited for for ever.
    reader = threading.Thread(target=lambda: said.append(output.readline().strip()), daemon=True)
    reader.start()
    try:
        reader.join(LOAD_START_S)
        yield said[0] if said and said[0] else "idle: the load did not start"
    finally:
        process.kill()
        process.wait()
        reader.join()
        output.close()


def sampled_by_command() -> str:
    """Run `tracker-agent sample nvidia --json` once, as an operator would; return how it went."""
    done = subprocess.run(
        [sys.executable, "-m", "tracker_agent.cli", "sample", "nvidia", "--json"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if done.returncode:
        return f"exit status {done.returncode}: {done.stderr.strip()[-500:]}"
    return f"{len([json.loads(line) for line in done.stdout.splitlines()])} lines of JSON"


if __name__ == "__main__":
    sys.exit(main())
