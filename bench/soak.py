"""Half an hour of a busy host: 2,000 live streams, 50,000 records a second, through agent and server to
the API.

    python bench/soak.py [--minutes 30] [--streams 2000] [--rate 50000] [--ranks 8]

One light process plays all trainings: it writes pre-packed lines with the streams' own checksums, several
records with one write (bench/load.py), and says what rate it held. Memory and descriptors of agent and
server must stay flat; how late records are is measured on one of the runs, from the write to the API.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.load import QuickStream, end_stream, open_stream
from bench.recording import record
from bench.watching import Gauge, Lateness
from tests.support.agent_process import AgentProcess, wait_until
from tests.support.server_process import ServerProcess

SLOTS_PER_S = 100
#: Times a second that each stream is written to.
WRITES_PER_S = 5
SAMPLE_S = 5.0
SETTLE_S = 900.0
CHECKED_RUNS = 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--streams", type=int, default=2000)
    parser.add_argument("--rate", type=int, default=50_000, help="records a second in all")
    parser.add_argument("--ranks", type=int, default=8, help="streams of one run")
    parser.add_argument("--write", metavar="SPOOL", help=argparse.SUPPRESS)
    options = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if options.write:
        write_load(Path(options.write), options)
        return
    with tempfile.TemporaryDirectory() as directory:
        figures = soak(Path(directory), options)
    record("soak", figures)


def write_load(spool: Path, options: argparse.Namespace) -> None:
    """Play the trainings; print what was done as JSON. Step n of a stream is written in its n-th turn."""
    streams = [
        QuickStream(open_stream(spool, f"soak{n // options.ranks}", n % options.ranks))
        for n in range(options.streams)
    ]
    records = max(1, round(options.rate / options.streams / WRITES_PER_S))
    slots = SLOTS_PER_S // WRITES_PER_S
    shares = [streams[slot::slots] for slot in range(slots)]
    turns = int(options.minutes * 60 * SLOTS_PER_S)
    print(json.dumps({"began": time.time()}), flush=True)
    began, written, behind_s = time.monotonic(), 0, 0.0
    for turn in range(turns):
        now_ns = time.time_ns()
        for stream in shares[turn % slots]:
            written += stream.append(records, now_ns)
        pause = began + (turn + 1) / SLOTS_PER_S - time.monotonic()
        if pause > 0:
            time.sleep(pause)
        behind_s = max(behind_s, -pause)
    took_s = time.monotonic() - began
    done = sum(stream.step for stream in streams)
    for stream in streams:
        end_stream(stream.writer)
    print(
        json.dumps(
            {
                "records": done,
                "steps": [stream.step for stream in streams],
                "records_per_s": round(done / took_s),
                "mib": round(written / 2**20, 1),
                "most_behind_schedule_s": round(behind_s, 3),
                "cpu_percent": round(100 * time.process_time() / took_s, 1),
            }
        ),
        flush=True,
    )


def soak(root: Path, options: argparse.Namespace) -> dict[str, Any]:
    with (
        ServerProcess(root / "server") as server,
        AgentProcess(root, server.url, server.ingest_key) as agent,
    ):
        wait_until(agent.status, what="the agent")
        assert agent.process is not None
        assert server.process is not None
        gauges = {"agent": Gauge(agent.process.pid), "server": Gauge(server.process.pid)}
        probe = ProbedRun(options)
        load = subprocess.Popen(
            [sys.executable, __file__, "--write", str(agent.spool), *sys.argv[1:]],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert load.stdout is not None
        probe.began = json.loads(load.stdout.readline())["began"]
        with Lateness(server, "soak0", probe.written_at) as lateness:
            began = time.monotonic()
            while load.poll() is None:
                for gauge in gauges.values():
                    gauge.sample(time.monotonic() - began)
                time.sleep(SAMPLE_S)
            generated = json.loads(load.stdout.read())
            steps = generated.pop("steps")
            ended = time.monotonic()
            wait_until(lambda: everything_shipped(agent), SETTLE_S, "all records on the server")
            settled_s = time.monotonic() - ended
        correct = check(server, steps, options.ranks)
        status = agent.status() or {}
    return {
        "minutes": options.minutes,
        "streams": options.streams,
        "rate_asked": options.rate,
        "generator": generated,
        **{name: gauge.figures() for name, gauge in gauges.items()},
        "lateness": lateness.figures(),
        "settled_after_the_end_s": round(settled_s, 1),
        "losses": status.get("shipping", {}).get("losses", {}),
        "runs_checked": correct,
        "flat": all(gauge.figures()["rss_flat"] for gauge in gauges.values()),
        "rate_held": generated["records_per_s"] >= 0.98 * options.rate,
    }


class ProbedRun:
    """Knows when the first rank of run soak0 wrote each of its steps."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.began = 0.0
        self._records = max(1, round(options.rate / options.streams / WRITES_PER_S))

    def written_at(self, step: int) -> float:
        """Return when that step was due to be written: what the generator is late counts as lateness."""
        return self.began + (step // self._records) / WRITES_PER_S


def everything_shipped(agent: AgentProcess) -> bool:
    time.sleep(1)
    shipping = (agent.status() or {}).get("shipping")
    return bool(shipping and shipping["behind"]["bytes"] == 0 and shipping["behind"]["unasked"] == 0)


def check(server: ServerProcess, steps: list[int], ranks: int) -> int:
    """Return how many runs were looked at; fail unless each has exactly the points that were written."""
    runs = len(steps) // ranks
    chosen = range(0, runs, max(1, runs // CHECKED_RUNS))
    for run in chosen:
        wanted = sum(steps[run * ranks : (run + 1) * ranks])
        page = server.get(f"/api/v1/runs/default/bench/soak{run}")
        if page["points"] != wanted:
            raise SystemExit(f"run soak{run} has {page['points']} points, {wanted} were written")
    return len(chosen)


if __name__ == "__main__":
    main()
