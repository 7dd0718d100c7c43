"""Corners that the simulator drove a lane into: it neither spins nor gets stuck, nor gives up too early."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Any

from tests.agent.conftest import Spool, make_header
from tests.support.virtual_lane import InlineThread, VirtualAgent
from tests.support.virtual_server import OFFSETS, VirtualServer
from tests.support.virtual_time import run_virtually
from tracker.protocol import bodies, kinds
from tracker.protocol.writer import StreamWriter
from tracker_agent.allowance import MEMORY_PER_BYTE

MIB = 2**20


def write_one_large_line(spool: Spool, run: str) -> bytes:
    writer = StreamWriter(str(spool.run(run)), make_header(run), 2**26)
    writer.write(kinds.CONSOLE, bodies.Console(1, "stdout", [os.urandom(MIB).hex()]).encode())
    writer.close()
    return writer.header.stream


class CountingThread(InlineThread):
    """Counts what it was asked to do."""

    calls = 0

    async def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        self.calls += 1
        assert self.calls < 1000, "it runs in a circle"
        return await super().call(function, *arguments)


def test_line_that_waits_for_memory_is_not_read_again_and_again(spool: Spool) -> None:
    streams = [write_one_large_line(spool, f"large{number}") for number in range(3)]

    async def work() -> tuple[int, int]:
        agent = VirtualAgent(spool.root, VirtualServer(latency_s=30.0), memory_bytes=MIB // MEMORY_PER_BYTE)
        agent.thread = CountingThread()
        for number, stream in enumerate(streams):
            agent.server.fake.keys.add(f"key{number}")
            agent.lane(f"key{number}").roster.add(agent.stream(stream, f"large{number}"))
        await agent.until(lambda: len(agent.ended) == 3, step_s=1.0)
        await agent.close()
        return agent.thread.calls, agent.allowance.memory.used

    calls, left = run_virtually(work())

    assert calls < 50
    assert left == 0


def test_record_that_is_refused_first_of_all_does_not_hold_up_its_lane_for_ever(spool: Spool) -> None:
    writer = StreamWriter(str(spool.run("run")), make_header("run"))
    stream, begin = writer.header.stream, writer.position
    server = VirtualServer()

    async def ship() -> None:
        agent = VirtualAgent(spool.root, server)
        agent.lane().roster.add(agent.stream(stream))
        await agent.until(lambda: agent.ended, within_s=6 * 3600, step_s=10.0)
        await agent.close()

    run_virtually(ship())
    for step in range(2):
        writer.write(kinds.METRICS, bodies.Metrics(1, step, {"poison": 1.0}).encode())
    writer.write(kinds.METRICS, bodies.Metrics(1, 2, {"good": 1.0}).encode())
    writer.close()
    server.fake.refuse = lambda data: b"poison" in data
    run_virtually(ship())

    stored = server.fake.stored(stream)
    assert stored is not None
    assert [offset for offset, _, _ in stored.gaps] == [begin, begin + 29]
    assert stored.next == writer.position


def test_stream_found_anew_while_its_position_is_asked_for_is_shipped(spool: Spool) -> None:
    stream = spool.write(run="run", records=5)

    async def work() -> bytes:
        agent = VirtualAgent(spool.root, VirtualServer(latency_s=1.0))
        lane = agent.lane()
        lost, found_anew = agent.stream(stream), agent.stream(stream)
        lane.roster.add(lost)
        await agent.until(lambda: agent.server.times(OFFSETS))
        lane.roster.remove(lost)
        lane.roster.add(found_anew)
        await agent.until(lambda: found_anew in agent.ended)
        await agent.close()
        return agent.server.fake.content(stream)

    assert run_virtually(work()) == spool.content(stream)


def test_header_that_a_server_refuses_for_a_while_is_not_given_up(spool: Spool) -> None:
    good, other = spool.write(run="good", records=5), spool.write(run="run", records=5)

    async def work() -> None:
        agent = VirtualAgent(spool.root)
        agent.server.fake.refuse = lambda data: other in data[:200]
        lane = agent.lane()
        for run, stream in (("good", good), ("run", other)):
            lane.roster.add(agent.stream(stream, run))
        await agent.until(lambda: len(agent.ended) == 1)
        await asyncio.sleep(3600)
        agent.server.fake.refuse = lambda data: False
        await agent.until(lambda: len(agent.ended) == 2, step_s=1.0)
        await agent.close()
        stored = agent.server.fake.stored(other)
        assert stored is not None
        assert (stored.content(), stored.gaps) == (spool.content(other), [])

    run_virtually(work())
