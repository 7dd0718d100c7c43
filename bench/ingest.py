"""Points per second into a server over HTTP, with its client on the same cores, and into commit() in process.

    python bench/ingest.py [--runs 16] [--records 10000] [--metrics 25] [--in-process-only]

The client does what an agent does: packs lines of several runs into requests, compresses and posts
them, two at a time. At the end the server is asked how many points each run has. Target: 500 k points/s.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import random
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import zstandard

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.recording import record
from tests.support.server_process import ServerProcess
from tests.support.stores import Committer, add_principal, open_in
from tests.support.streams import StreamBytes
from tracker_server.ingest.commit import Lines

LINES_PER_ENTRY = 250
CONNECTIONS = 2


def make_entries(runs: int, records: int, metrics: int, seed: int) -> list[list[Lines]]:
    """Return entries by run: noisy float32 curves, and every fourth metric something smoother."""
    noise = np.random.default_rng(seed).normal(size=(records, metrics)).astype(np.float32)
    names = [f"train/metric_{index}" for index in range(metrics)]
    rng = random.Random(seed)
    made = []
    for number in range(runs):
        stream = StreamBytes(rng.randbytes(16), run=f"bench{number}", project="bench")
        entries = []
        for step in range(records):
            row = noise[(step + number * 977) % records].tolist()
            row[::4] = [0.001 * step + index for index in range(len(row[::4]))]
            stream.log(dict(zip(names, row, strict=True)), step)
            if step % LINES_PER_ENTRY == LINES_PER_ENTRY - 1:
                entries.append(Lines(1000, "bench", stream.stream, *stream.take()))
        made.append(entries)
    return made


def in_process(entries: list[list[Lines]], points: int) -> dict[str, Any]:
    """Return what commit() alone takes; four runs in each request."""
    with tempfile.TemporaryDirectory() as directory:
        store = open_in(Path(directory))
        committer = Committer(store, add_principal(store))
        requests = [
            [entry for run in entries[first : first + 4] for entry in run[at : at + 1]]
            for at in range(len(entries[0]))
            for first in range(0, len(entries), 4)
        ]
        wall, cpu = time.perf_counter(), time.process_time()
        for request in requests:
            committer.commit(*request)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        fold_wall = time.perf_counter()
        while store.fold_due().folded:
            pass
        fold_wall = time.perf_counter() - fold_wall
        store.close()
        size = (Path(directory) / "tracker.db").stat().st_size
    return {
        "points_per_s": points / wall,
        "points_per_cpu_s": points / cpu,
        "fold_points_per_s": points / fold_wall,
        "bytes_per_point": size / points,
    }


class Client(threading.Thread):
    """Posts the entries of some runs over one connection, as an agent would."""

    def __init__(self, server: ServerProcess, runs: list[list[Lines]], requests: list[float]) -> None:
        super().__init__()
        self.server = server
        self.key = server.ingest_key
        self.batches = [[run[at] for run in runs] for at in range(len(runs[0]))]
        self.requests = requests
        self.error: BaseException | None = None

    def run(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=120)
        compressor = zstandard.ZstdCompressor(3)
        try:
            for batch in self.batches:
                entries = [[e.stream, e.offset, e.data, {"uid": e.uid, "user": e.user}] for e in batch]
                started = time.perf_counter()
                body = compressor.compress(
                    msgpack.packb(
                        {"agent": "bench", "machine": "", "host": "", "time": 0, "entries": entries}
                    )
                )
                headers = {
                    "Authorization": f"Bearer {self.key}",
                    "Content-Type": "application/msgpack",
                    "Content-Encoding": "zstd",
                }
                connection.request("POST", "/api/v1/ingest", body, headers)
                answer = connection.getresponse()
                text = answer.read()
                assert answer.status == 200, text
                assert all("error" not in s or not s["error"] for s in json.loads(text)["streams"]), text
                self.requests.append(time.perf_counter() - started)
        except BaseException as error:
            self.error = error
        finally:
            connection.close()


def over_http(entries: list[list[Lines]], points: int) -> dict[str, Any]:
    """Return what a server process takes from clients on the same cores."""
    with tempfile.TemporaryDirectory() as directory, ServerProcess(Path(directory)) as server:
        assert server.process is not None
        status = Path(f"/proc/{server.process.pid}")
        idle_kib = memory(status)
        requests: list[float] = []
        clients = [Client(server, entries[n::CONNECTIONS], requests) for n in range(CONNECTIONS)]
        wall, server_cpu, client_cpu = time.perf_counter(), cpu_s(status), time.process_time()
        for client in clients:
            client.start()
        for client in clients:
            client.join()
            if client.error is not None:
                raise client.error
        wall = time.perf_counter() - wall
        server_cpu, client_cpu = cpu_s(status) - server_cpu, time.process_time() - client_cpu
        stored = sum(
            server.get(f"/api/v1/runs/default/bench/bench{number}")["points"]
            for number in range(len(entries))
        )
        assert stored == points, (stored, points)
        time.sleep(5)  # the folder works once a second
        peak_kib = memory(status)
        server.stop()
        size = (server.data / "tracker.db").stat().st_size
    requests.sort()
    return {
        "points_per_s": points / wall,
        "server_cpu_s": server_cpu,
        "client_cpu_s": client_cpu,
        "points_per_server_cpu_s": points / server_cpu,
        "request_p50_ms": requests[len(requests) // 2] * 1000,
        "request_p99_ms": requests[int(len(requests) * 0.99)] * 1000,
        "rss_idle_mib": idle_kib / 1024,
        "rss_peak_mib": peak_kib / 1024,
        "bytes_per_point": size / points,
    }


def memory(process: Path) -> int:
    """Return the greatest resident size of a process so far, in KiB."""
    for line in (process / "status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1])
    raise AssertionError("no VmHWM")


def cpu_s(process: Path) -> float:
    """Return the CPU seconds of a process so far."""
    fields = (process / "stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Run and record."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=16)
    parser.add_argument("--records", type=int, default=10_000)
    parser.add_argument("--metrics", type=int, default=25)
    parser.add_argument("--in-process-only", action="store_true")
    asked = parser.parse_args()
    points = asked.runs * asked.records * asked.metrics
    entries = make_entries(asked.runs, asked.records, asked.metrics, seed=1)
    figures: dict[str, Any] = {
        "points": points,
        "wire_bytes_per_point": sum(len(e.data) for run in entries for e in run) / points,
        "in_process": in_process(entries, points),
    }
    if not asked.in_process_only:
        figures["http"] = over_http(entries, points)
    record("ingest", figures)


if __name__ == "__main__":
    main()
