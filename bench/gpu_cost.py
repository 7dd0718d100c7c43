"""What the nvidia collector and its child cost with eight GPUs whose driver takes 0.5 ms for each call.

    python bench/gpu_cost.py [--seconds 120] [--gpus 8] [--call-ms 0.5]

The driver is the stand-in of the tests (needs gcc); what it computes itself is counted as ours, so that the
figures are a little too high. `make gpu-check` measures the real thing. Target: < 0.5 % of a core at 2 s.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.gpu_family import children_of, cpu_s, rss_mib
from bench.recording import record
from tests.support.fake_nvml import FakeNvml
from tracker_agent.collectors.nvidia import NvidiaCollector

INTERVAL_S = 2.0
CPU_PERCENT_MAX = 0.5
#: What is read once, or each half minute, has happened by then.
WARM_S = 35.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--gpus", type=int, default=8)
    parser.add_argument("--call-ms", type=float, default=0.5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        library = FakeNvml(Path(directory))
        os.environ.update(library.environment)
        library.play(gpus=options.gpus, sleep=options.call_ms)
        figures: dict[str, Any] = {
            "gpus": options.gpus,
            "call_ms": options.call_ms,
            "seconds": options.seconds,
            "collector": collector_cost(library, options.seconds, options.gpus, options.call_ms),
            "whole_agent": whole_agent(Path(directory, "with"), options.seconds),
            "whole_agent_without_gpus": whole_agent(Path(directory, "without"), options.seconds, "off"),
        }
    figures["target_met"] = figures["collector"]["cpu_percent_of_one_core"] < CPU_PERCENT_MAX
    record("gpu_cost", figures)


def collector_cost(library: FakeNvml, seconds: float, gpus: int, call_ms: float) -> dict[str, Any]:
    """Sample each two seconds in this process, with the child beside it."""
    collector = NvidiaCollector()
    walls: list[float] = []
    cpus: list[float] = []
    try:
        began = due = time.monotonic()
        children: list[int] = []
        child_cpu = started = 0.0
        while time.monotonic() - began < WARM_S + seconds:
            if not children and time.monotonic() - began >= WARM_S:
                children = children_of(os.getpid())
                child_cpu, started = cpu_s(children), time.monotonic()
                walls, cpus = [], []
            wall, cpu = time.perf_counter(), time.thread_time()
            reading = collector.sample()
            cpus.append(time.thread_time() - cpu)
            walls.append(time.perf_counter() - wall)
            due += INTERVAL_S
            time.sleep(max(0.0, due - time.monotonic()))
        elapsed, child_cpu = time.monotonic() - started, cpu_s(children) - child_cpu
        rss = rss_mib(children)
        library.play(gpus=gpus, sleep=call_ms, record=1)
        collector.sample()
        calls = len(library.calls())
        library.forget_calls()
    finally:
        collector.close()
    return {
        "cpu_percent_of_one_core": round(100 * (sum(cpus) + child_cpu) / elapsed, 4),
        "agent_cpu_ms_per_sample": round(1000 * sum(cpus) / len(cpus), 3),
        "child_cpu_ms_per_sample": round(1000 * child_cpu / len(cpus), 3),
        "sample_ms_p50": round(1000 * statistics.median(walls), 2),
        "sample_ms_max": round(1000 * max(walls), 2),
        "calls_per_sample": calls,
        "values_per_sample": len(reading.values),
        "child_rss_mib": rss,
    }


def whole_agent(directory: Path, seconds: float, gpu: str = "auto") -> dict[str, Any]:
    """Run the agent itself, all collectors on, no runs, no server."""
    directory.mkdir()
    server = ("--server", "http://127.0.0.1:9")
    arguments = [*server, "--state-dir", f"{directory}/state", "--spool", str(directory), "--gpu", gpu]
    agent = subprocess.Popen(
        [sys.executable, "-m", "tracker_agent.cli", "run", *arguments], stderr=subprocess.DEVNULL
    )
    try:
        time.sleep(WARM_S)
        family = [agent.pid, *children_of(agent.pid)]
        before, began = [cpu_s([each]) for each in family], time.monotonic()
        time.sleep(seconds)
        elapsed = time.monotonic() - began
        used = [cpu_s([each]) - start for each, start in zip(family, before, strict=True)]
        return {
            "agent_cpu_percent": round(100 * used[0] / elapsed, 3),
            "child_cpu_percent": round(100 * sum(used[1:]) / elapsed, 3),
            "agent_rss_mib": rss_mib(family[:1]),
            "child_rss_mib": rss_mib(family[1:]),
            "children": len(family) - 1,
        }
    finally:
        agent.terminate()
        agent.wait(20)


if __name__ == "__main__":
    main()
