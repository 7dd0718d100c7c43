"""What measuring the machine costs: each collector's time per sample, and the whole agent at rest.

    python bench/sampler.py [--seconds 60]

The agent runs on an empty spool, without a server, with its usual two seconds between samples; its child
for GPUs is counted too. GPUs are those of the machine; where there are none, none are measured.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from bench.recording import record
from tracker_agent.collectors.chosen import build_collectors
from tracker_agent.collectors.collector import NothingHere
from tracker_agent.settings import SamplerSettings

SAMPLES = 300


def collector_costs() -> dict[str, dict[str, float | str]]:
    costs: dict[str, dict[str, float | str]] = {}
    for collector in build_collectors(SamplerSettings()):
        walls, cpus = [], []
        try:
            for _ in range(SAMPLES):
                wall, cpu = time.perf_counter(), time.thread_time()
                collector.sample()
                cpus.append(time.thread_time() - cpu)
                walls.append(time.perf_counter() - wall)
            costs[collector.name] = {
                "cpu_ms": round(1000 * statistics.median(cpus), 4),
                "wall_ms_p50": round(1000 * statistics.median(walls), 4),
                "wall_ms_p99": round(1000 * statistics.quantiles(walls, n=100)[98], 4),
            }
        except NothingHere as nothing:
            costs[collector.name] = {"nothing here": str(nothing)}
        finally:
            collector.close()
    return costs


def agent_at_rest(seconds: float) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as directory:
        arguments = [
            "--server",
            "http://127.0.0.1:9",
            "--state-dir",
            f"{directory}/state",
            "--spool",
            directory,
        ]
        began = time.monotonic()
        agent = subprocess.Popen(
            [sys.executable, "-m", "tracker_agent.cli", "run", *arguments], stderr=subprocess.DEVNULL
        )
        try:
            while not Path(directory, "state/agent.sock").exists():
                time.sleep(0.01)
            ready_s = time.monotonic() - began
            time.sleep(5)
            family = [psutil.Process(agent.pid), *psutil.Process(agent.pid).children()]
            before = sum(sum(each.cpu_times()[:2]) for each in family)
            time.sleep(seconds)
            used = sum(sum(each.cpu_times()[:2]) for each in family) - before
            return {
                "start_s": round(ready_s, 3),
                "cpu_percent_of_one_core": round(100 * used / seconds, 3),
                "rss_mib": round(sum(each.memory_info().rss for each in family) / 2**20, 1),
                "threads": family[0].num_threads(),
            }
        finally:
            agent.terminate()
            agent.wait(20)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    options = parser.parse_args()
    record("sampler", {"collectors": collector_costs(), "agent_at_rest": agent_at_rest(options.seconds)})


if __name__ == "__main__":
    main()
