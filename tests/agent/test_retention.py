"""Run directories go when the server has had them long enough, or at a limit; real files, nothing else."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.agent.conftest import Spool, Start, eventually, make_header
from tests.support.fake_tracker_server import FakeTrackerServer
from tests.support.retention import KEEP_S, FakeClock, make_caretaker
from tests.support.writer_process import WriterProcess
from tracker.protocol.writer import StreamWriter
from tracker_agent.caretaker import Caretaker
from tracker_agent.disk import Disk
from tracker_agent.losses import LossReason
from tracker_agent.opening import Place
from tracker_agent.pipeline import Pipeline
from tracker_agent.retention import Limits
from tracker_agent.settings import FileSettings
from tracker_agent.shipped_since import ShippedSince

DAY = 86_400.0


async def whole(pipeline: Pipeline, streams: int) -> None:
    """Wait until so many runs' streams are shipped to their end."""
    await eventually(
        lambda: sum(s.ended for s in pipeline._catalogue.streams.values() if not s.own) >= streams
    )


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "retention"


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def fill(path: Path, size: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(random.randbytes(size))


async def test_shipped_run_goes_whole_after_its_time_with_files_and_lock(
    spool: Spool, server: FakeTrackerServer, start: Start, state: Path, clock: FakeClock
) -> None:
    spool.write(run="done", records=300, segment_bytes=4000)
    fill(spool.run("done") / "files" / "deep" / "model.pt", 10_000)
    (spool.run("done") / "latest").symlink_to("files")
    async with start(files=FileSettings(enabled=False)) as pipeline:
        await whole(pipeline, 1)
        caretaker = make_caretaker(pipeline, state, clock)

        await caretaker.round()
        clock.advance(KEEP_S - 10)
        await caretaker.round()
        assert (spool.user / "done").exists()
        clock.advance(20)
        await caretaker.round()

        assert not (spool.user / "done").exists()
        assert caretaker.status()["removed"]["runs"] == 1
        await eventually(lambda: pipeline.status()["streams"]["known"] == 0 or not _runs(pipeline))
        assert pipeline.status()["losses"] == {}


def _runs(pipeline: Pipeline) -> list[str]:
    return [stream.header.run for stream in pipeline._catalogue.streams.values() if stream.header.run]


async def test_time_counts_over_restarts_and_not_by_a_clock_that_jumps(
    spool: Spool, server: FakeTrackerServer, start: Start, state: Path
) -> None:
    spool.write(run="done")
    clock = FakeClock()
    async with start() as pipeline:
        await whole(pipeline, 1)
        caretaker = make_caretaker(pipeline, state, clock)
        await caretaker.round()
        clock.advance(3 * DAY)
        clock.set_wall(10_000 * DAY)  # nothing gets older by this
        await caretaker.round()
        caretaker.save()
        clock.set_wall(10_000 * DAY)  # while no agent runs, a day at most
        caretaker = make_caretaker(pipeline, state, clock)
        await caretaker.round()
        assert (spool.user / "done").exists()
        clock.advance(2.9 * DAY)
        await caretaker.round()
        assert (spool.user / "done").exists()

        clock.advance(0.2 * DAY)
        await caretaker.round()

        assert not (spool.user / "done").exists()


async def test_run_stays_while_anything_of_it_is_not_shipped(
    spool: Spool, server: FakeTrackerServer, start: Start, state: Path, clock: FakeClock
) -> None:
    names = ("files", "offline", "elsewhere", "behind", "alive")
    spool.write(run="files")
    for name, fields in (
        ("offline", {"offline": True}),
        ("elsewhere", {"machine": "other", "boot": "other"}),
    ):
        spool.write(run=name)
        spool.write(run=name, header=make_header(name, **fields))
    spool.write(run="behind")
    spool.write(run="alive")
    alive = StreamWriter(str(spool.run("alive")), make_header("alive"))
    async with start() as pipeline:
        await whole(pipeline, 5)
        caretaker = make_caretaker(pipeline, state, clock, files_done=lambda place: place.name != "files")
        for stream in pipeline._catalogue.streams.values():
            if stream.header.run == "behind":
                stream.ended = False
            if stream.header.run == "alive":
                # This very process writes it, and its lock is no lock to itself.
                stream.live = stream.id == alive.header.stream

        await caretaker.round()
        clock.advance(2 * KEEP_S)
        await caretaker.round()

        assert all((spool.user / name).exists() for name in names)
        alive.close()


async def test_directory_in_which_somebody_writes_again_is_left(
    spool: Spool, server: FakeTrackerServer, start: Start, state: Path, clock: FakeClock
) -> None:
    """The scanner need not have noticed yet: what counts is what lies there when it is to go."""
    for name in ("grown", "segment", "stream", "file"):
        spool.write(run=name)
    async with start(scan_interval_s=60.0) as pipeline:
        await whole(pipeline, 4)
        caretaker = make_caretaker(pipeline, state, clock)
        await caretaker.round()
        clock.advance(KEEP_S + 1)
        clock.set_wall(-1)
        (grown,) = spool.run("grown").glob("*.mpl")
        with grown.open("ab") as file:
            file.write(b"more")
        (segment,) = spool.run("segment").glob("*.mpl")
        segment.with_name(segment.name.replace("000000", "000001")).write_bytes(b"")
        late = clock.wall_ns() / 1e9
        new = spool.write(run="stream")
        fill(spool.run("file") / "files" / "new", 10)
        kept = {name: sorted(os.listdir(spool.run(name))) for name in ("grown", "segment", "stream")}
        # ctime cannot be set: "now" is moved instead, so that what was just written is new.
        clock.set_wall(time.time() - late + KEEP_S - 1)

        await caretaker.round()

        assert {name: sorted(os.listdir(spool.run(name))) for name in kept} == kept
        assert (spool.run("file") / "files" / "new").exists()
        assert len(list(spool.run("file").glob("*.mpl"))) == 1
        assert len(caretaker.status()["problems"]) == 4
        assert new


async def test_stream_that_no_scan_has_found_yet_keeps_a_run_that_is_kept_for_no_time(
    spool: Spool, server: FakeTrackerServer, start: Start, state: Path, clock: FakeClock
) -> None:
    spool.write(run="run")
    async with start(scan_interval_s=60.0) as pipeline:
        await whole(pipeline, 1)
        caretaker = make_caretaker(pipeline, state, clock, Limits(0.0))
        new = spool.write(run="run")

        await caretaker.round()

        assert spool.segments(new) != []


async def test_interrupted_removal_goes_on_in_the_next_round(
    spool: Spool,
    server: FakeTrackerServer,
    start: Start,
    state: Path,
    clock: FakeClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tracker_agent.spool_keeper.REMOVED_PER_ROUND", 7)
    spool.write(run="done", records=600, segment_bytes=3000)
    for number in range(20):
        fill(spool.run("done") / "files" / f"{number}", 10)
    async with start() as pipeline:
        await whole(pipeline, 1)
        caretaker = make_caretaker(pipeline, state, clock)
        await caretaker.round()
        clock.advance(KEEP_S + 1)
        rounds = 0
        while (spool.user / "done").exists():
            before = sum(len(files) for _, _, files in os.walk(spool.user / "done"))
            await caretaker.round()
            rounds += 1
            after = sum(len(files) for _, _, files in os.walk(spool.user / "done"))
            assert before - after <= 7
            assert rounds < 30

        assert rounds > 4
        assert pipeline.status()["parked"] == []


async def test_agent_killed_within_a_removal_finishes_it_and_parks_nothing(
    spool: Spool,
    server: FakeTrackerServer,
    start: Start,
    state: Path,
    clock: FakeClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Stop after any number of removed names: the next agent finds a stream that ends where it should."""
    spool.write(run="done", records=300, segment_bytes=3000)
    fill(spool.run("done") / "files" / "a", 10)
    monkeypatch.setattr("tracker_agent.spool_keeper.REMOVED_PER_ROUND", 2)
    rounds = 0
    while (spool.user / "done").exists() and list((spool.user / "done").glob("*.mpl")):
        async with start() as pipeline:
            await whole(pipeline, 1)
            caretaker = make_caretaker(pipeline, state, clock)
            await caretaker.round()
            if rounds == 0:
                clock.advance(KEEP_S + 1)
                await caretaker.round()
            caretaker.save()
            assert pipeline.status()["parked"] == []
            assert pipeline.status()["losses"] == {}
        rounds += 1
        assert rounds < 30

    assert rounds > 2


async def test_empty_run_directory_goes_once_it_is_old(
    spool: Spool, server: FakeTrackerServer, start: Start, state: Path, clock: FakeClock
) -> None:
    spool.run("empty")
    spool.write(run="other")
    async with start() as pipeline:
        await whole(pipeline, 1)
        caretaker = make_caretaker(pipeline, state, clock)

        await caretaker.round()
        assert (spool.user / "empty").exists()
        clock.advance(KEEP_S + 5)
        await caretaker.round()

        assert not (spool.user / "empty").exists()


async def test_limit_per_user_takes_the_oldest_shipped_and_keeps_what_is_behind(
    spool: Spool, server: FakeTrackerServer, start: Start, state: Path, clock: FakeClock
) -> None:
    for number, name in enumerate(("oldest", "older", "newest")):
        spool.write(run=name)
        fill(spool.run(name) / "files" / "model", 100_000)
        (segment,) = spool.run(name).glob("*.mpl")
        os.utime(segment, (time.time() - 500 + 100 * number,) * 2)
    async with start() as pipeline:
        await whole(pipeline, 3)
        clock.advance(600)  # what was just written is not touched
        caretaker = make_caretaker(pipeline, state, clock, Limits(KEEP_S, bytes_per_user=250_000))

        await caretaker.round()

        assert sorted(os.listdir(spool.user)) == ["newest", "older"]
        assert caretaker.status()["over_limit"] == []


async def test_limit_takes_shipped_segments_of_a_live_run_and_the_rest_arrives(
    spool: Spool, server: FakeTrackerServer, start: Start, state: Path, clock: FakeClock
) -> None:
    with WriterProcess(spool.run("alive"), "alive", 3000, 64 * 1024, 100) as writer:
        before = spool.content(writer.stream)
        assert len(spool.segments(writer.stream)) > 3
        newest = spool.segments(writer.stream)[-1]
        async with start() as pipeline:
            await eventually(lambda: server.content(writer.stream) == before)
            await eventually(lambda: is_live(pipeline, writer.stream))
            caretaker = make_caretaker(pipeline, state, clock, Limits(KEEP_S, bytes_per_user=1))

            await eventually_round(caretaker, lambda: spool.segments(writer.stream) == [newest])
            old = newest.stat().st_size
            writer.write()
            writer.finish()

            await eventually(lambda: server.content(writer.stream) == before + newest.read_bytes()[old:])
            assert caretaker.status()["removed"]["unshipped_bytes"] == 0
            assert "are allowed" in caretaker.status()["over_limit"][0]
            assert pipeline.status()["losses"] == {}


def is_live(pipeline: Pipeline, stream: bytes) -> bool:
    return any(known.live for known in pipeline._catalogue.streams.values() if known.id == stream)


async def eventually_round(caretaker: Caretaker, condition: Callable[[], bool]) -> None:
    """Do rounds until a condition holds: positions become known one after the other."""
    for _ in range(500):
        await caretaker.round()
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("no round brought it about")


async def test_unshipped_data_goes_as_the_last_resort_and_as_a_counted_gap(
    spool: Spool, server: FakeTrackerServer, start: Start, state: Path, clock: FakeClock
) -> None:
    text = "metric/with/a/long/name" * 8
    stream = spool.write(run="behind", records=4000, segment_bytes=256 * 1024, text=text)
    content = spool.content(stream)
    segments = [path.stat().st_size for path in spool.segments(stream)]
    assert len(segments) > 3
    server.keys.clear()
    async with start() as pipeline:
        await eventually(lambda: pipeline.status()["behind"]["bytes"] >= len(content))
        caretaker = make_caretaker(pipeline, state, clock, Limits(KEEP_S, bytes_per_user=300 * 1024))

        await caretaker.round()
        removed = caretaker.status()["removed"]
        assert removed["unshipped_bytes"] > sum(segments) - 400 * 1024
        disk = sum(path.stat().st_blocks * 512 for path in spool.segments(stream))
        assert disk <= 300 * 1024
        server.keys.add("key")

        stored = await eventually(
            lambda: (s := server.stored(stream)) and s.next == len(content) and s, timeout_s=60
        )

    # What is left arrived where it belongs, the rest is a gap that says why.
    kept = bytearray(content)
    for offset, size, _ in sorted(stored.gaps, reverse=True):
        del kept[offset : offset + size]
    assert stored.content() == bytes(kept)
    assert LossReason.USER_LIMIT.text in {reason for _, _, reason in stored.gaps}
    assert stored.gaps[0][0] > 32 * 1024, "the start, which says what run this is, stays"


async def test_segment_written_by_a_live_writer_is_never_given_up(
    spool: Spool, server: FakeTrackerServer, start: Start, state: Path, clock: FakeClock
) -> None:
    server.keys.clear()
    with WriterProcess(spool.run("alive"), "alive", 3000, 128 * 1024, 200) as writer:
        content = spool.content(writer.stream)
        newest = spool.segments(writer.stream)[-1]
        async with start() as pipeline:
            await eventually(lambda: pipeline.status()["behind"]["bytes"] >= len(content))
            await eventually(lambda: is_live(pipeline, writer.stream))
            caretaker = make_caretaker(pipeline, state, clock, Limits(KEEP_S, 1, 1))

            for _ in range(3):
                await caretaker.round()

            assert spool.segments(writer.stream)[-1] == newest
            assert newest.stat().st_blocks * 512 >= newest.stat().st_size > 0
            assert len(caretaker.status()["over_limit"]) == 2
            assert spool.segments(writer.stream)[0].stat().st_blocks * 512 <= 128 * 1024


async def test_small_runs_that_never_were_shipped_go_last_and_are_counted(
    spool: Spool, server: FakeTrackerServer, start: Start, state: Path, clock: FakeClock
) -> None:
    names = [f"run{number}" for number in range(20)]
    sizes = []
    for number, name in enumerate(names):
        stream = spool.write(run=name)
        sizes.append(len(spool.content(stream)))
        os.utime(spool.segments(stream)[0], (time.time() - 1000 + number,) * 2)
    server.keys.clear()
    async with start() as pipeline:
        await eventually(lambda: pipeline.status()["behind"]["streams"] == 20)
        caretaker = make_caretaker(pipeline, state, clock, Limits(KEEP_S, bytes_in_all=10 * 4096))

        await caretaker.round()

        assert sorted(os.listdir(spool.user)) == sorted(names[10:])
        assert caretaker.status()["removed"] == {
            "runs": 10,
            "segments": 0,
            "bytes": 10 * 4096,
            "unshipped_bytes": sum(sizes[:10]),
        }


async def test_restored_server_gets_what_files_still_hold_and_a_gap_for_what_went(
    spool: Spool, server: FakeTrackerServer, start: Start, state: Path, clock: FakeClock
) -> None:
    header = make_header("run")
    stream = spool.write(run="run", records=3000, segment_bytes=64 * 1024, header=header, text="y" * 100)
    before = spool.content(stream)
    sizes = [path.stat().st_size for path in spool.segments(stream)]
    async with start() as pipeline:
        await eventually(lambda: server.content(stream) == before)
        (known,) = [s for s in pipeline._catalogue.streams.values() if s.id == stream]
        caretaker = make_caretaker(
            pipeline, state, clock, Limits(KEEP_S, bytes_per_user=100 * 1024), lambda place: False
        )
        await caretaker.round()
        left = spool.segments(stream)
        assert len(left) < len(sizes)
        kept = b"".join(path.read_bytes() for path in left)

        server.streams.clear()
        server.epoch = "epoch-2"
        spool.write(run="a-reason-to-ask")
        # A lane that was in the middle of a request may wait before the next one, up to a minute.
        stored = await eventually(lambda: (s := server.stored(stream)) and s.next == len(before) and s, 180)

    assert stored.content() == kept
    ((offset, size, reason),) = stored.gaps
    assert (offset, size) == (0, len(before) - len(kept))
    assert reason == LossReason.SERVER_LOST.text
    assert known.parked is None


async def test_run_with_directories_without_end_stays_and_is_named(
    spool: Spool, server: FakeTrackerServer, start: Start, state: Path, clock: FakeClock
) -> None:
    spool.write(run="done")
    (spool.run("done") / "files").mkdir()
    async with start() as pipeline:
        await whole(pipeline, 1)
        caretaker = make_caretaker(pipeline, state, clock)
        await caretaker.round()
        deep = spool.run("done") / "files"
        for _ in range(40):
            deep = deep / "d"
            deep.mkdir()
        clock.advance(KEEP_S + 10)
        await caretaker.round()

        assert deep.exists() and len(list(spool.run("done").glob("*.mpl"))) == 1
        assert "directories deep" in caretaker.status()["problems"][0]["reason"]


def test_damaged_state_of_retention_only_makes_runs_stay_longer(tmp_path: Path) -> None:
    clock = FakeClock()
    for content in (
        b"",
        b"{",
        b"[]",
        b'{"version": 1, "runs": 5}',
        b'{"version": 1, "runs": [[1]]}',
        b"[" * 9999,
    ):
        (tmp_path / "retention.json").write_bytes(content)
        since = ShippedSince(str(tmp_path), clock, Disk())  # type: ignore[arg-type]

        assert "stay longer" in str(since.read())
        assert since.whole_at(Place("/s", "1", "r", 1), 5, 7.0) == 7.0


def test_run_that_grew_counts_anew() -> None:
    since = ShippedSince("/nowhere", FakeClock(), SimpleNamespace())  # type: ignore[arg-type]
    place = Place("/s", "1", "r", 1)
    since.whole_at(place, 5, 1.0)
    assert since.whole_at(place, 5, 100.0) == 1.0

    assert since.whole_at(place, 6, 100.0) == 100.0
