"""What the agent costs on a host with 10,000 old runs, all of them shipped, where nothing is to be done.

    python bench/idle_host.py [--runs 10000] [--seconds 60]

Measured twice: once everything is shipped, and after a restart, when all old runs were looked at anew.
Targets: < 1 % of a core, < 120 MiB, with the sampler on.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.agent_footprint import cpu_s, rss_mib, shipped
from bench.load import QuickStream, end_stream, open_stream
from bench.recording import record
from tests.support.agent_process import AgentProcess, wait_until

CPU_PERCENT_MAX = 1.0
RSS_MIB_MAX = 120.0
RECORDS = 100
SHIPPED_S_MAX = 1200.0
#: What was found or shipped just now is looked at more often for a while.
CALM_S = 30.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=60.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        record("idle_host", measure(Path(directory), options.runs, options.seconds))


def measure(root: Path, runs: int, seconds: float) -> dict[str, Any]:
    null_server = Path(__file__).with_name("agent_footprint.py")
    server = subprocess.Popen(
        [sys.executable, null_server, "--null-server"], stdout=subprocess.PIPE, text=True
    )
    assert server.stdout is not None
    agent = AgentProcess(root, f"http://127.0.0.1:{int(server.stdout.readline())}", "key")
    for number in range(runs):
        stream = QuickStream(open_stream(agent.spool, f"old{number}"))
        stream.append(RECORDS, time.time_ns())
        end_stream(stream.writer)
    figures: dict[str, Any] = {"runs": runs, "seconds": seconds}
    try:
        for name in ("once_shipped", "after_a_restart"):
            with agent:
                began = time.monotonic()
                wait_until(lambda: shipped(agent, runs, runs), SHIPPED_S_MAX, "all runs shipped")
                figures[name] = {"settled_s": round(time.monotonic() - began, 1), **idle(agent, seconds)}
    finally:
        server.kill()
        server.wait()
    cases = [figures["once_shipped"], figures["after_a_restart"]]
    figures["target_met"] = all(
        each["cpu_percent"] < CPU_PERCENT_MAX and each["rss_mib"] < RSS_MIB_MAX for each in cases
    )
    return figures


def idle(agent: AgentProcess, seconds: float) -> dict[str, Any]:
    assert agent.process is not None
    pid = agent.process.pid
    time.sleep(CALM_S)
    before, began = cpu_s(pid), time.monotonic()
    time.sleep(seconds)
    return {
        "cpu_percent": round(100 * (cpu_s(pid) - before) / (time.monotonic() - began), 3),
        "rss_mib": round(rss_mib(pid), 1),
        "open_files": len(os.listdir(f"/proc/{pid}/fd")),
    }


if __name__ == "__main__":
    main()
