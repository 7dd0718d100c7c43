"""What measuring the machine costs us, beside prometheus-node-exporter on the same machine in the same run.

    python bench/host_cost.py [--samples 300] [--seconds 60]

Collectors: processor time of each one's sample, here and with the files of a machine of 128 cores; per 2 s,
as slow collectors sample more seldom. The exporter: processor time of its process for each scrape, of the
same machines. The agent at rest: processor time and memory of the whole agent with its sampler, while the
exporter is asked each 2 s too.
Targets: all collectors together below 0.5 % of a core at 2 s, here and with 128 cores.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.agent_footprint import cpu_s, rss_mib
from bench.host_peers import NODE_EXPORTER, NodeExporter, need
from bench.recording import record
from tests.support.fixture_host import FixtureHost
from tracker_agent.collectors.chosen import build_collectors
from tracker_agent.collectors.collector import Collector, CollectorError, Context, NothingHere
from tracker_agent.collectors.kernel import Kernel
from tracker_agent.settings import SamplerSettings

INTERVAL_S = 2.0
CORE_PERCENT_MAX = 0.5
#: Of a slow collector as many samples as fit into this are measured, and at least a few.
SECONDS_PER_COLLECTOR = 3.0
SAMPLES_MIN = 5
AGENT_START_S_MAX = 60.0
SETTLE_S = 5.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--samples", type=int, default=300)
    parser.add_argument("--seconds", type=float, default=60.0)
    options = parser.parse_args()
    need(NODE_EXPORTER)
    with tempfile.TemporaryDirectory() as directory:
        roots = {"this_machine": Path("/"), "128_cores": Path(directory, "host")}
        FixtureHost("amd-128c", roots["128_cores"])
        figures: dict[str, Any] = {
            name: {
                "collectors": collector_costs(root, options.samples),
                "node_exporter": exporter_costs(root, options.samples),
            }
            for name, root in roots.items()
        }
    figures["at_rest"] = at_rest(options.seconds)
    figures["target_met"] = all(
        figures[name]["collectors"]["core_percent"] < CORE_PERCENT_MAX for name in roots
    )
    record("host_cost", figures)


def collector_costs(root: Path, samples: int) -> dict[str, Any]:
    """Return processor time of every collector's sample, and of all together each 2 s."""
    context = Context(kernel=Kernel(str(root)))
    each: dict[str, Any] = {}
    per_interval_ms = 0.0
    for collector in build_collectors(SamplerSettings(gpu="off"), context=context):
        try:
            costs = [_cost_ms(collector) for _ in _bounded(samples)]
        except NothingHere as nothing:
            each[collector.name] = f"nothing here: {nothing}"
            continue
        except CollectorError as error:
            each[collector.name] = f"failed: {error}"
            continue
        finally:
            collector.close()
        every_s = max(collector.interval_s, INTERVAL_S)
        each[collector.name] = {"ms": round(statistics.median(costs), 3), "every_s": every_s}
        per_interval_ms += statistics.median(costs) * INTERVAL_S / every_s
    return {
        "ms_per_sample_of_all": round(per_interval_ms, 3),
        "core_percent": round(100 * per_interval_ms / 1000 / INTERVAL_S, 4),
        "each": each,
    }


def _bounded(samples: int) -> Any:
    until = time.monotonic() + SECONDS_PER_COLLECTOR
    for number in range(samples):
        if number >= SAMPLES_MIN and time.monotonic() > until:
            return
        yield number


def _cost_ms(collector: Collector) -> float:
    began = time.process_time()
    collector.sample()
    return 1000 * (time.process_time() - began)


def exporter_costs(root: Path, samples: int) -> dict[str, float]:
    """Return processor time of the exporter for each scrape of a machine."""
    exporter = NodeExporter(root)
    try:
        for _ in range(SAMPLES_MIN):
            body = exporter.raw()
        before = cpu_s(exporter.process.pid)
        for _ in range(samples):
            exporter.raw()
        ms = 1000 * (cpu_s(exporter.process.pid) - before) / samples
        return {
            "ms_per_scrape": round(ms, 3),
            "core_percent": round(100 * ms / 1000 / INTERVAL_S, 4),
            "rss_mib": round(rss_mib(exporter.process.pid), 1),
            "lines": sum(not line.startswith(b"#") for line in body.splitlines()),
        }
    finally:
        exporter.close()


def at_rest(seconds: float) -> Mapping[str, Any]:
    """Return what the whole agent and the exporter take while both measure this machine each 2 s."""
    exporter = NodeExporter()
    try:
        with tempfile.TemporaryDirectory() as directory:
            state = Path(directory, "state")
            # Nobody listens there: nothing is shipped, the machine is measured all the same.
            command = [
                "run",
                "--server",
                "http://127.0.0.1:9",
                "--state-dir",
                str(state),
                "--spool",
                directory,
            ]
            agent = subprocess.Popen(
                [sys.executable, "-m", "tracker_agent.cli", *command], stderr=subprocess.DEVNULL
            )
            try:
                _until_up(state / "agent.sock")
                return _both(agent.pid, exporter, seconds)
            finally:
                agent.terminate()
                agent.wait(20)
    finally:
        exporter.close()


def _until_up(path: Path) -> None:
    deadline = time.monotonic() + AGENT_START_S_MAX
    while not path.exists():
        assert time.monotonic() < deadline, "the agent did not start"
        time.sleep(0.05)
    time.sleep(SETTLE_S)


def _both(agent: int, exporter: NodeExporter, seconds: float) -> dict[str, Any]:
    processes = {"agent": [agent, *_children(agent)], "node_exporter": [exporter.process.pid]}
    before = {name: sum(map(cpu_s, pids)) for name, pids in processes.items()}
    began = time.monotonic()
    for tick in range(int(seconds / INTERVAL_S)):
        time.sleep(max(0.0, began + tick * INTERVAL_S - time.monotonic()))
        exporter.raw()
    time.sleep(max(0.0, began + seconds - time.monotonic()))
    took = time.monotonic() - began
    return {
        name: {
            "core_percent": round(100 * (sum(map(cpu_s, pids)) - before[name]) / took, 3),
            "rss_mib": round(sum(map(rss_mib, pids)), 1),
            "threads": sum(len(os.listdir(f"/proc/{pid}/task")) for pid in pids),
        }
        for name, pids in processes.items()
    }


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


if __name__ == "__main__":
    main()
