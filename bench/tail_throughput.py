"""How fast the agent's path is: a file of 160-byte lines → scan, check, batch, compress, send → a null
server.

    python bench/tail_throughput.py [--mib 512] [--rounds 3]

The target is 150 MB/s per core, counted in CPU time of the agent's process (all its threads). The floor, in
the same rounds: nothing but reading the file and checking its lines (codec.scan_lines).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import random
import resource
import secrets
import statistics
import sys
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import msgpack
import structlog
import zstandard
from aiohttp import web

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.recording import record
from tracker.protocol import bodies, kinds
from tracker.protocol.codec import Seeds, encode_line, scan_lines
from tracker.protocol.header import Header, read_header
from tracker.protocol.identity import boot_id, machine_id
from tracker.protocol.writer import StreamWriter
from tracker_agent.clock import Clock
from tracker_agent.own_stream import Identity, OwnStreams
from tracker_agent.pipeline import Pipeline
from tracker_agent.settings import LimitSettings, ServerSettings
from tracker_agent.shipping_settings import PipelineSettings

LINE_BYTES = 160
TARGET_MB_S = 150.0


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--mib", type=int, default=512)
    options.add_argument("--rounds", type=int, default=3)
    arguments = options.parse_args()
    rounds = []
    with tempfile.TemporaryDirectory() as directory:
        spool = Path(directory) / "spool"
        size = write_stream(spool, arguments.mib * 2**20)
        for _ in range(arguments.rounds):
            floor = in_child(measure_floor, str(spool))
            shipped = with_null_server(str(spool), directory, size)
            rounds.append({**shipped, "floor_mb_per_cpu_s": floor["mb_per_cpu_s"]})
    rates = [each["mb_per_cpu_s"] for each in rounds]
    ratios = [each["mb_per_cpu_s"] / each["floor_mb_per_cpu_s"] for each in rounds]
    record(
        "tail_throughput",
        {
            "bytes": size,
            "line_bytes": LINE_BYTES,
            "target_mb_per_cpu_s": TARGET_MB_S,
            "agent_mb_per_cpu_s": statistics.median(rates),
            "agent_mb_per_wall_s": statistics.median(each["mb_per_wall_s"] for each in rounds),
            "floor_mb_per_cpu_s": statistics.median(each["floor_mb_per_cpu_s"] for each in rounds),
            "ratio_to_floor": statistics.median(ratios),
            "agent_max_rss_mib": max(each["max_rss_mib"] for each in rounds),
            "compression": statistics.median(each["compression"] for each in rounds),
            "rounds": {str(number): each for number, each in enumerate(rounds)},
            "target_met": statistics.median(rates) >= TARGET_MB_S,
        },
    )


def write_stream(spool: Path, size: int) -> int:
    """Write one stream of that many bytes, as a training with ten-number steps would."""
    directory = spool / str(os.getuid()) / "bench"
    directory.mkdir(parents=True)
    numbers = random.Random(1)
    now = time.time_ns()
    header = Header(
        stream=secrets.token_bytes(16), run="bench", segment=0, base=0, machine=machine_id(), boot=boot_id(),
        pid=os.getpid(), started=now, clock=time.monotonic_ns(), writer="bench",
    )  # fmt: skip
    writer = StreamWriter(str(directory), header)
    writer.write(kinds.RUN, bodies.Run(now, {"project": "bench"}).encode())
    names = [f"{letter}" for letter in "abcdefghij"]
    probe = len(encode_line(kinds.METRICS, bodies.Metrics(now, 10**6, dict.fromkeys(names, 0.5)).encode(), 0))
    names[0] += "x" * max(0, LINE_BYTES - probe)
    step = 10**6
    while writer.position < size:
        step += 1
        values = {name: numbers.random() for name in names}
        writer.write(kinds.METRICS, bodies.Metrics(now + step, step, values).encode())
    writer.write(kinds.EXIT, bodies.Exit(now, 0).encode())
    writer.close()
    return writer.position


def measure_floor(spool: str) -> dict[str, float]:
    """Read and check every line, and do nothing with them."""
    before, total = cpu_s(), 0
    for path in sorted(Path(spool).glob("*/*/*.mpl")):
        with path.open("rb") as file:
            header, start = read_header(file.read(65536))
            seeds = Seeds(header.stream, header.segment)
            file.seek(start)
            rest = b""
            while chunk := file.read(2**20 - len(rest)):
                data = rest + chunk
                end = scan_lines(data, seeds, keep=False).end
                total += end
                rest = data[end:]
    return {"mb_per_cpu_s": total / 1e6 / (cpu_s() - before)}


def ship(spool: str, state: str, url: str, size: int) -> dict[str, float]:
    """Run the pipeline until everything is shipped."""

    async def run() -> dict[str, float]:
        identity = Identity(machine_id(), boot_id(), "bench", "0.1.0")
        servers = (ServerSettings(url=url, key="key"),)
        limits = LimitSettings(backfill_bytes_per_s=2**40)  # not how fast it may be, how fast it is
        settings = PipelineSettings(state, (spool,), servers, watch=False, limits=limits)
        own = OwnStreams(state, identity, Clock())
        pipeline = Pipeline(settings, identity, own, Clock(), structlog.get_logger())
        task = asyncio.create_task(pipeline.run())
        while pipeline.counters.bytes_shipped == 0:
            await asyncio.sleep(0.001)
        cpu, wall, shipped = cpu_s(), time.monotonic(), pipeline.counters.bytes_shipped
        while pipeline.counters.bytes_shipped < size:
            await asyncio.sleep(0.01)
        cpu, wall = cpu_s() - cpu, time.monotonic() - wall
        counters = pipeline.counters
        await pipeline.stop()
        await task
        own.close()
        rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        return {
            "mb_per_cpu_s": (size - shipped) / 1e6 / cpu,
            "mb_per_wall_s": (size - shipped) / 1e6 / wall,
            "max_rss_mib": rss,
            "compression": counters.bytes_shipped / counters.bytes_sent,
        }

    return asyncio.run(run())


def with_null_server(spool: str, directory: str, size: int) -> dict[str, float]:
    here, there = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(target=null_server, args=(there,), daemon=True)
    server.start()
    port = here.recv()
    state = tempfile.mkdtemp(dir=directory)
    try:
        return in_child(ship, spool, state, f"http://127.0.0.1:{port}", size)
    finally:
        server.terminate()
        server.join()


def null_server(pipe: Connection) -> None:
    """Say yes to everything: acknowledge what each request holds without looking at it."""
    positions: dict[str, int] = {}

    async def answer(request: web.Request) -> web.Response:
        body = await request.read()
        if request.path == "/api/v1/server":
            told = {"server": "tracker", "version": "0", "protocol": [1, 1], "capabilities": ["zstd"]}
            return web.json_response({**told, "epoch": "e"})
        if request.path == "/api/v1/streams/offsets":
            asked = json.loads(body)["streams"]
            told = [
                {**each, "next": positions.get(each["stream"], 0), "crc": None, "last": None}
                for each in asked
            ]
            return web.json_response({"epoch": "e", "streams": told})
        content = zstandard.ZstdDecompressor().decompressobj().decompress(body)
        streams: dict[str, dict[str, Any]] = {}
        for stream, offset, data, owner in msgpack.unpackb(content)["entries"]:
            end = offset + (len(data) if isinstance(data, bytes) else data["gap"])
            positions[stream.hex()] = end
            streams[stream.hex()] = {"uid": owner["uid"], "stream": stream.hex(), "next": end}
        return web.json_response({"epoch": "e", "streams": list(streams.values())})

    async def serve() -> None:
        app = web.Application(client_max_size=2**28)
        app.router.add_route("*", "/{path:.*}", answer)
        runner = web.AppRunner(app, auto_decompress=False, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        pipe.send(runner.addresses[0][1])
        await asyncio.Event().wait()

    asyncio.run(serve())


def _child(pipe: Connection, function: Any, arguments: tuple[Any, ...]) -> None:
    pipe.send(function(*arguments))


def in_child(function: Any, *arguments: Any) -> dict[str, float]:
    """Return function(*arguments), run in a fresh process, so that CPU time and memory are its own."""
    here, there = multiprocessing.Pipe()
    child = multiprocessing.get_context("spawn").Process(target=_child, args=(there, function, arguments))
    child.start()
    result: dict[str, float] = here.recv()
    child.join()
    return result


def cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    main()
