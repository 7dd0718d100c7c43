"""The agent's process is killed at random moments, its state deleted, its server faulty: a tiny model judges.

The model: what the server stores of a stream is what its files hold, in order, once.
"""

from __future__ import annotations

import os
import random
import shutil
import threading
import time
from pathlib import Path

import pytest

from tests.agent.conftest import Spool, make_header
from tests.support.agent_process import wait_until
from tests.support.fake_tracker_server import FakeTrackerServer, Hang, LoseResponse, Reset, Status, Twice
from tests.support.pipeline_process import PipelineProcess
from tracker.protocol import bodies, kinds
from tracker.protocol.writer import StreamWriter

KILLS = 12
STREAMS = 6


@pytest.mark.timeout(180)
@pytest.mark.parametrize("watch", [False, True], ids=["scanned", "watched"])
def test_everything_is_stored_once_in_order_however_often_the_agent_dies(
    spool: Spool, server: FakeTrackerServer, tmp_path: Path, watch: bool
) -> None:
    seed = int(os.environ.get("TRACKER_TEST_SEED", str(random.SystemRandom().randrange(2**32))))
    print(f"TRACKER_TEST_SEED={seed}")
    moments = random.Random(seed)
    over = threading.Event()
    streams: list[bytes] = []
    writing = threading.Thread(target=write_on, args=(spool, streams, random.Random(seed + 1), over))
    state = tmp_path / "state"
    agent = PipelineProcess(
        tmp_path / "agent.log",
        state_dir=str(state),
        spools=[str(spool.root)],
        servers={"url": server.url, "key": "key"},
        watch=watch,
        scan_interval_s=0.05,
        flush_interval_s=0.02,
        batch_bytes=20_000,
        retry_first_s=0.02,
        retry_max_s=0.2,
        request_timeout_s=1.0,
    )
    writing.start()

    with agent:
        for kill in range(KILLS):
            faults = [Status(503), LoseResponse(), Reset(), Twice(), Hang(), None, None, None]
            server.faults["/api/v1/ingest"] = [moments.choice(faults) for _ in range(5)]
            if moments.random() < 0.5:
                before = len(server.requests)
                wait_until(lambda n=before: len(server.requests) > n + 2, what="requests")
            time.sleep(moments.uniform(0, 0.3))
            agent.kill()
            if kill in (KILLS // 3, 2 * KILLS // 3):
                # It may have died before it made it.
                shutil.rmtree(state, ignore_errors=True)
                assert not state.exists()
            agent.start()
        server.faults.clear()
        over.set()
        writing.join(30)
        if moments.random() < 0.5:
            shutil.rmtree(state, ignore_errors=True)

        for stream in streams:
            content = spool.content(stream)
            wait_until(
                lambda s=stream, c=content: len(server.content(s)) >= len(c),
                what=f"{stream.hex()} on the server",
            )
        for stream in streams:
            stored = server.stored(stream)
            assert stored is not None
            assert stored.content() == spool.content(stream)
            assert stored.gaps == []
        assert agent.stop() == 0
    assert "task failed" not in agent.log.read_text()


def write_on(spool: Spool, streams: list[bytes], numbers: random.Random, over: threading.Event) -> None:
    """Write several streams at once until told to stop."""
    writers = []
    for number in range(STREAMS):
        writer = StreamWriter(str(spool.run(f"run{number}")), make_header(f"run{number}"), 50_000)
        writer.write(kinds.RUN, bodies.Run(time.time_ns(), {"project": "p"}).encode())
        writers.append(writer)
        streams.append(writer.header.stream)
    step = 0
    while not over.is_set():
        for writer in writers:
            for _ in range(numbers.randrange(5)):
                step += 1
                body = bodies.Metrics(time.time_ns(), step, {"loss": numbers.random()})
                writer.write(kinds.METRICS, body.encode())
        over.wait(numbers.uniform(0, 0.01))
    for writer in writers:
        writer.write(kinds.EXIT, bodies.Exit(time.time_ns(), 0).encode())
        writer.close()
