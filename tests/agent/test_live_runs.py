"""Which writers live on this host, as the collectors are told, and where windows about them go."""

from __future__ import annotations

import asyncio

from tests.agent.conftest import UID, Spool, Start, eventually
from tests.support.live_writer import LiveWriter
from tracker_agent.collectors.collector import LiveRun
from tracker_agent.own_stream import DEFAULT


async def test_writer_is_told_of_with_its_pid_while_it_lives(spool: Spool, start: Start) -> None:
    async with start() as pipeline:
        with LiveWriter(spool.run("one")) as one, LiveWriter(spool.run("two")) as two:
            first, second = (UID, one.stream), (UID, two.stream)
            await eventually(lambda: len(pipeline.live_runs()) == 2)
            assert set(pipeline.live_runs()) == {
                LiveRun(first, "one", one.process.pid),
                LiveRun(second, "two", two.process.pid),
            }
            one.kill()
            await eventually(lambda: [run.key for run in pipeline.live_runs()] == [second])
        await eventually(lambda: pipeline.live_runs() == ())


async def test_old_runs_and_the_agents_own_streams_are_not_live(spool: Spool, start: Start) -> None:
    spool.write("old")
    async with start() as pipeline:
        with LiveWriter(spool.run("new")) as writer:
            await eventually(lambda: pipeline.status()["streams"]["known"] == 3)

            assert [run.key for run in pipeline.live_runs()] == [(UID, writer.stream)]


async def test_live_runs_may_be_asked_for_from_another_thread(spool: Spool, start: Start) -> None:
    async with start() as pipeline:
        with LiveWriter(spool.run("run")):
            await eventually(lambda: pipeline.live_runs())

            assert await asyncio.to_thread(pipeline.live_runs) == pipeline.live_runs()


async def test_windows_about_a_writer_go_the_way_its_stream_goes(spool: Spool, start: Start) -> None:
    async with start() as pipeline:
        with LiveWriter(spool.run("run")) as writer:
            key = (UID, writer.stream)
            await eventually(lambda: pipeline.live_runs())

            assert pipeline.way_of(key) == (DEFAULT, key)
            assert pipeline.way_of((UID, bytes(16))) is None


async def test_the_helper_beside_a_training_is_not_measured_with_it(spool: Spool, start: Start) -> None:
    async with start() as pipeline:
        with LiveWriter(spool.run("run")) as writer, LiveWriter(spool.run("run"), role="helper"):
            await eventually(lambda: pipeline.status()["streams"]["known"] == 3)

            await eventually(lambda: pipeline.status()["streams"]["live"] >= 2)
            assert [run.key for run in pipeline.live_runs()] == [(UID, writer.stream)]
