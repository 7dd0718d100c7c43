"""What a user deletes while it is written: shipped to its end as long as the agent has it open."""

from __future__ import annotations

import asyncio
import resource
import shutil
from pathlib import Path

import pytest

from tests.agent.conftest import Spool, Start, eventually
from tests.support.fake_tracker_server import FakeTrackerServer
from tests.support.writer_process import WriterProcess
from tracker_agent import open_files
from tracker_agent.pipeline import HOUSEKEEPING_S, Pipeline
from tracker_agent.settings import FileSettings


def is_live(pipeline: Pipeline, stream: bytes) -> bool:
    return any(known.live for known in pipeline._catalogue.streams.values() if known.id == stream)


async def shipped(server: FakeTrackerServer, stream: bytes, position: int) -> None:
    await eventually(lambda: (s := server.stored(stream)) and s.next == position, timeout_s=60)


@pytest.mark.parametrize("what", ["run", "segment", "user"])
async def test_deleted_run_that_goes_on_is_shipped_to_its_end(
    spool: Spool, server: FakeTrackerServer, start: Start, what: str
) -> None:
    with WriterProcess(spool.run("run"), "run", 10) as writer:
        async with start() as pipeline:
            await eventually(lambda: is_live(pipeline, writer.stream))
            await shipped(server, writer.stream, len(spool.content(writer.stream)))
            if what == "segment":
                spool.segments(writer.stream)[0].unlink()
            else:
                shutil.rmtree(spool.run("run") if what == "run" else spool.user)
            position = 0
            for _ in range(3):
                position = writer.write()
                await shipped(server, writer.stream, position)
            writer.finish()

            await eventually(lambda: server.states(writer.stream)[-1][0] == "gone", 60, "its end is told")
            await eventually(
                lambda: writer.stream not in {s.id for s in pipeline._catalogue.streams.values()}
            )
            stored = server.stored(writer.stream)
            assert stored is not None and stored.gaps == [] and stored.next > position
            assert pipeline.status()["losses"] == {}
            assert all(root.files.held == 0 for root in pipeline._roots.all)


async def test_what_is_unshipped_when_a_run_is_deleted_waits_for_the_server(
    spool: Spool, server: FakeTrackerServer, start: Start
) -> None:
    server.keys.clear()
    with WriterProcess(spool.run("run"), "run", 50) as writer:
        content = spool.content(writer.stream)
        async with start() as pipeline:
            await eventually(lambda: is_live(pipeline, writer.stream))
            shutil.rmtree(spool.run("run"))
            await eventually(lambda: any(root.files.held for root in pipeline._roots.all))
            writer.process.kill()
            server.keys.add("key")

            await eventually(lambda: server.content(writer.stream) == content)
            await eventually(lambda: all(root.files.held == 0 for root in pipeline._roots.all))
            assert pipeline.status()["losses"] == {}


async def test_more_deleted_files_than_are_held_are_counted_losses(
    spool: Spool, server: FakeTrackerServer, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(open_files, "HELD_MAX", 2)
    server.keys.clear()
    streams = [spool.write(run=f"run{number}") for number in range(5)]
    async with start() as pipeline:
        await eventually(lambda: {s.id for s in pipeline._catalogue.streams.values()} >= set(streams))
        shutil.rmtree(spool.user)

        losses = await eventually(lambda: pipeline.status()["losses"])
        assert [loss["gaps"] for loss in losses.values()] == [3]
        assert sum(root.files.held for root in pipeline._roots.all) == 2


async def test_run_that_is_renamed_is_not_taken_for_deleted(
    spool: Spool, server: FakeTrackerServer, start: Start
) -> None:
    with WriterProcess(spool.run("run"), "run", 10) as writer:
        async with start() as pipeline:
            await eventually(lambda: is_live(pipeline, writer.stream))
            await shipped(server, writer.stream, len(spool.content(writer.stream)))
            shutil.move(spool.run("run"), spool.user / "renamed")
            position = writer.write()

            await shipped(server, writer.stream, position)
            (known,) = [s for s in pipeline._catalogue.streams.values() if s.id == writer.stream]
            await eventually(lambda: pipeline._catalogue.streams[known.key].entry.place.name == "renamed")
            assert all(root.files.held == 0 for root in pipeline._roots.all)


async def test_agent_out_of_descriptors_goes_on_with_fewer(
    spool: Spool, server: FakeTrackerServer, start: Start
) -> None:
    streams = [spool.write(run=f"run{number}", records=3) for number in range(150)]
    # Read now: the test is short of descriptors later, too.
    contents = {stream: spool.content(stream) for stream in streams}
    async with start(files=FileSettings(enabled=False)) as pipeline:
        await eventually(lambda: pipeline._lanes.all())
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        used = len(list(Path("/proc/self/fd").iterdir()))
        resource.setrlimit(resource.RLIMIT_NOFILE, (used + 20, hard))
        try:
            await eventually(lambda: all(server.content(s) == c for s, c in contents.items()), timeout_s=60)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert pipeline.status()["losses"] == {}


@pytest.mark.parametrize("what", ["run", "segment", "user"])
async def test_run_deleted_while_no_agent_ran_does_not_run_for_ever(
    spool: Spool, server: FakeTrackerServer, start: Start, what: str
) -> None:
    with WriterProcess(spool.run("run"), "run", 10) as writer:
        async with start():
            await eventually(lambda: [state for state, _ in server.states(writer.stream)] == ["live"])
    if what == "segment":
        for file in spool.run("run").iterdir():
            file.unlink()
    else:
        shutil.rmtree(spool.run("run") if what == "run" else spool.user)

    async with start():
        await eventually(lambda: [state for state, _ in server.states(writer.stream)][-1] == "gone")
    cause = server.states(writer.stream)[-1][1]["cause"]
    assert cause == "deleted from the spool"

    async with start() as pipeline:
        await eventually(lambda: pipeline.own_shipped)
        assert len(server.states(writer.stream)) == 2  # told once


async def test_a_run_whose_spool_is_away_at_the_start_is_not_taken_for_deleted(
    spool: Spool, server: FakeTrackerServer, start: Start
) -> None:
    with WriterProcess(spool.run("run"), "run", 10) as writer:
        async with start():
            await eventually(lambda: [state for state, _ in server.states(writer.stream)] == ["live"])
        away = spool.root.with_name("away")
        spool.root.rename(away)
        async with start() as pipeline:
            await eventually(lambda: all(root.scanned for root in pipeline._roots.all))
            await asyncio.sleep(2.5 * HOUSEKEEPING_S)
            assert len(server.states(writer.stream)) == 1
