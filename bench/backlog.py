"""A host that was a day without its server: how fast the backlog goes, what it costs, and what live runs
notice.

    python bench/backlog.py [--gib 5] [--runs 100]

Finished runs of ten numbers a record lie in the spool; one run is alive and logs 25 records a second.
Then the server comes. Measured: replay rate, memory of agent and server, and how late the live run's
records are meanwhile.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, Self

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.load import Block, QuickStream, end_stream, open_stream
from bench.recording import record
from bench.watching import Gauge, Lateness
from tests.support.agent_process import AgentProcess, wait_until
from tests.support.server_process import ServerProcess

LIVE_PER_S = 25
SAMPLE_S = 1.0
REPLAY_S_MAX = 7200.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--gib", type=float, default=5.0)
    parser.add_argument("--runs", type=int, default=100)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        record("backlog", measure(Path(directory), options.gib, options.runs))


def write_backlog(spool: Path, gib: float, runs: int) -> tuple[int, int]:
    """Write finished runs; return their bytes and records."""
    probe = Block(10)
    # One segment each: that is what a block fits into.
    records = min(int(gib * 2**30 / runs / probe.line_bytes), (60 << 20) // probe.line_bytes)
    block = Block(records)
    for number in range(runs):
        writer = open_stream(spool, f"old{number}")
        block.write_to(writer)
        end_stream(writer)
    return runs * block.bytes, runs * block.records


class LiveRun:
    """A training that logs all the while."""

    def __init__(self, spool: Path) -> None:
        self._stream = QuickStream(open_stream(spool, "live"))
        self._times: list[float] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._log, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        end_stream(self._stream.writer)

    def written_at(self, step: int) -> float | None:
        """Return when a step was written."""
        return self._times[step] if step < len(self._times) else None

    @property
    def steps(self) -> int:
        """Records so far."""
        return len(self._times)

    def _log(self) -> None:
        while not self._over.wait(1 / LIVE_PER_S):
            self._times.append(time.time())
            self._stream.append(1, time.time_ns())


def measure(root: Path, gib: float, runs: int) -> dict[str, Any]:
    server = ServerProcess(root / "server")
    with server:
        key = server.ingest_key
    agent = AgentProcess(root, server.url, key)
    size, records = write_backlog(agent.spool, gib, runs)
    with LiveRun(agent.spool) as live, agent:
        wait_until(agent.status, what="the agent")
        with server:
            assert agent.process is not None
            assert server.process is not None
            gauges = {"agent": Gauge(agent.process.pid), "server": Gauge(server.process.pid)}
            began = time.monotonic()
            first = live.steps
            with Lateness(
                server, "live", lambda step: live.written_at(step) if step >= first else None
            ) as lateness:
                while behind(agent) and time.monotonic() - began < REPLAY_S_MAX:
                    for gauge in gauges.values():
                        gauge.sample(time.monotonic() - began)
                    time.sleep(SAMPLE_S)
                took_s = time.monotonic() - began
            wrong = [
                number
                for number in range(runs)
                if server.get(f"/api/v1/runs/default/bench/old{number}")["points"]
                != records // runs * Block.RECORD_METRICS
            ]
            if wrong:
                raise SystemExit(f"runs with a wrong number of points: {wrong}")
    return {
        "gib": round(size / 2**30, 2),
        "runs": runs,
        "records": records,
        "replay_s": round(took_s, 1),
        "replay_mib_per_s": round(size / 2**20 / took_s, 1),
        "replay_records_per_s": round(records / took_s),
        "rate_cap_mib_per_s": 16,
        "live_lateness": lateness.figures(),
        **{name: gauge.figures() for name, gauge in gauges.items()},
    }


def behind(agent: AgentProcess) -> bool:
    """Return whether sealed runs still wait; what the live run has under way does not count."""
    shipping = (agent.status() or {}).get("shipping")
    return not shipping or shipping["behind"]["unasked"] > 0 or shipping["behind"]["bytes"] > 64 * 1024


if __name__ == "__main__":
    main()
