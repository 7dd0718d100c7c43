"""What the agent costs, sampler and all, on a host where nothing happens: 1,000 quiet runs in its spool.

    python bench/agent_footprint.py [--runs 1000] [--seconds 30]

Half of the runs are finished and shipped, half are alive and silent (their locks are held by one process).
Three cases: no hints (watch off), hints, and everything finished. Targets: < 1 % of a core, < 120 MiB.
"""

from __future__ import annotations

import argparse
import os
import resource
import secrets
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.recording import record
from bench.tail_throughput import null_server
from tests.support.agent_process import AgentProcess, wait_until
from tracker.protocol import bodies, kinds
from tracker.protocol.header import Header
from tracker.protocol.identity import boot_id, machine_id
from tracker.protocol.writer import StreamWriter

CPU_PERCENT_MAX = 1.0
RSS_MIB_MAX = 120.0


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--runs", type=int, default=1000)
    options.add_argument("--seconds", type=float, default=30.0)
    arguments = options.parse_args()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    figures: dict[str, Any] = {"runs": arguments.runs, "seconds": arguments.seconds, "nofile_before": soft}
    for name, live_share, watch in (
        ("half_live_no_hints", 0.5, False),
        ("half_live_with_hints", 0.5, True),
        ("all_finished", 0.0, False),
    ):
        with tempfile.TemporaryDirectory() as directory:
            figures[name] = measure(Path(directory), arguments.runs, arguments.seconds, live_share, watch)
    cases = [each for each in figures.values() if isinstance(each, dict)]
    figures["cpu_percent_max"] = max(each["cpu_percent"] for each in cases)
    figures["rss_mib_max"] = max(each["rss_mib"] for each in cases)
    figures["target_met"] = (
        figures["cpu_percent_max"] < CPU_PERCENT_MAX and figures["rss_mib_max"] < RSS_MIB_MAX
    )
    record("agent_footprint", figures)


def measure(directory: Path, runs: int, seconds: float, live_share: float, watch: bool) -> dict[str, Any]:
    server = subprocess.Popen([sys.executable, __file__, "--null-server"], stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    agent = AgentProcess(directory, f"http://127.0.0.1:{int(server.stdout.readline())}", "key", watch=watch)
    writers = [write_run(agent.spool, number) for number in range(runs)]
    live = int(runs * live_share)
    for writer in writers[live:]:
        writer.write(kinds.EXIT, bodies.Exit(time.time_ns(), 0).encode())
        writer.close()
    try:
        with agent:
            assert agent.process is not None
            pid = agent.process.pid
            wait_until(lambda: shipped(agent, runs, runs - live), timeout_s=120, what="all runs shipped")
            time.sleep(15)  # what is new is looked at more often for a while
            before, rss = cpu_s(pid), rss_mib(pid)
            started = time.monotonic()
            time.sleep(seconds)
            percent = 100 * (cpu_s(pid) - before) / (time.monotonic() - started)
            return {
                "live": live,
                "watch": watch,
                "cpu_percent": round(percent, 3),
                "rss_mib": round(max(rss, rss_mib(pid)), 1),
                "open_files": len(os.listdir(f"/proc/{pid}/fd")),
            }
    finally:
        server.kill()
        server.wait()
        for writer in writers[:live]:
            writer.close()


def write_run(spool: Path, number: int) -> StreamWriter:
    directory = spool / str(os.getuid()) / f"run{number}"
    directory.mkdir(parents=True)
    now = time.time_ns()
    header = Header(
        stream=secrets.token_bytes(16), run=f"run{number}", segment=0, base=0, machine=machine_id(),
        boot=boot_id(), pid=os.getpid(), started=now, clock=time.monotonic_ns(), writer="bench",
    )  # fmt: skip
    writer = StreamWriter(str(directory), header)
    writer.write(kinds.RUN, bodies.Run(now, {"project": "bench"}).encode())
    for step in range(100):
        writer.write(kinds.METRICS, bodies.Metrics(now + step, step, {"loss": 1 / (step + 1)}).encode())
    return writer


def shipped(agent: AgentProcess, runs: int, finished: int) -> bool:
    """Return whether the agent has shipped everything there is."""
    time.sleep(1)
    shipping = (agent.status() or {}).get("shipping")
    if not shipping:
        return False
    streams = shipping["streams"]
    return bool(
        streams["known"] >= runs and streams["shipped"] >= finished and shipping["behind"]["bytes"] == 0
    )


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def rss_mib(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return 0.0


class _Printed:
    def send(self, port: int) -> None:
        print(port, flush=True)


if __name__ == "__main__":
    if "--null-server" in sys.argv:
        null_server(_Printed())  # type: ignore[arg-type]
    else:
        main()
