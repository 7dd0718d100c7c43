"""Days of a lane in milliseconds: what goes first, how much at once, what one bad stream costs others."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import msgpack
import pytest
import zstandard

from tests.agent.conftest import Spool, make_header
from tests.support.virtual_lane import InlineThread, VirtualAgent
from tests.support.virtual_server import INGEST, OFFSETS, SERVER, VirtualServer, timed_out
from tests.support.virtual_time import run_virtually
from tracker.protocol import bodies, kinds
from tracker.protocol.writer import StreamWriter
from tracker_agent.allowance import MEMORY_PER_BYTE
from tracker_agent.endpoint import EndpointSettings
from tracker_agent.exchange import Answer
from tracker_agent.streams import Stream

MIB = 2**20


def write_bulk(spool: Spool, run: str, size: int) -> bytes:
    """Write a stream of about that many bytes that do not compress."""
    writer = StreamWriter(str(spool.run(run)), make_header(run), 2**26)
    for number in range(size // 8192):
        writer.write(kinds.CONSOLE, bodies.Console(number, "stdout", [os.urandom(4060).hex()]).encode())
    writer.close()
    return writer.header.stream


class Training:
    """A live stream that grows by a record when told."""

    def __init__(self, agent: VirtualAgent, spool: Spool, run: str) -> None:
        self._writer = StreamWriter(str(spool.run(run)), make_header(run), 2**26)
        self._step = 0
        self.log()
        self.stream: Stream = agent.stream(self._writer.header.stream, run, live=True)

    def log(self, size: int = 10) -> int:
        """Write a record; return where the stream ends then."""
        self._step += 1
        body = bodies.Console(self._step, "stdout", ["x" * size]).encode()
        self._writer.write(kinds.CONSOLE, body)
        path = Path(self._writer.directory) / f"{self._writer.header.stream.hex()}.000000.mpl"
        return path.stat().st_size


def entries_of(body: bytes) -> list[Any]:
    decompressed = zstandard.ZstdDecompressor().decompressobj().decompress(body)
    found: list[Any] = msgpack.unpackb(decompressed)["entries"]
    return found


def test_live_data_is_flushed_within_200_ms_while_a_large_backlog_is_replayed(
    tmp_path: Path, spool: Spool
) -> None:
    old = [write_bulk(spool, f"old{number}", 6 * MIB) for number in range(3)]

    async def work() -> tuple[list[float], bool, int]:
        # 40 Mbit/s: the backlog alone keeps the link busy for four seconds.
        agent = VirtualAgent(spool.root, VirtualServer(latency_s=0.005, bytes_per_s=5_000_000))
        lane = agent.lane()
        for number, stream in enumerate(old):
            lane.roster.add(agent.stream(stream, f"old{number}"))
        training = Training(agent, spool, "now")
        lane.roster.add(training.stream)
        await agent.until(lambda: training.stream.learned and not lane.roster.unlearned)
        delays = []
        for _ in range(30):
            await asyncio.sleep(0.1)
            end = training.log()
            lane.roster.ready(training.stream)
            delays.append(await agent.until(lambda end=end: training.stream.position >= end, step_s=0.001))  # type: ignore[misc]
        busy = bool(lane.roster.waiting) or any(
            stream.position == 0 for stream in lane.roster.streams.values()
        )
        await agent.until(lambda: len(agent.ended) == 3)
        await agent.close()
        return delays, busy, agent.server.under_way_max

    delays, busy, _ = run_virtually(work())

    assert busy, "the backlog was not over before the live data was"
    assert max(delays) < 0.2 + 0.15, "the flush interval and the way there"


def test_live_stream_with_a_backlog_of_its_own_holds_up_no_other(spool: Spool) -> None:
    behind = write_bulk(spool, "behind", 12 * MIB)

    async def work() -> tuple[list[float], int]:
        agent = VirtualAgent(spool.root, VirtualServer(latency_s=0.005, bytes_per_s=2_000_000))
        lane = agent.lane()
        training = Training(agent, spool, "now")
        late = agent.stream(behind, "behind", live=True)
        lane.roster.add(late)
        lane.roster.add(training.stream)
        await agent.until(lambda: training.stream.learned and late.learned)
        delays = []
        for _ in range(20):
            await asyncio.sleep(0.1)
            end = training.log()
            lane.roster.ready(training.stream)
            delays.append(await agent.until(lambda end=end: training.stream.position >= end, step_s=0.001))  # type: ignore[misc]
        left = late.bytes_behind
        await agent.close()
        return delays, left

    delays, left = run_virtually(work())

    assert left > 0
    assert max(delays) < 0.2 + 0.15


def test_backlog_gets_its_share_while_live_data_fill_the_link(spool: Spool) -> None:
    old = write_bulk(spool, "old", 4 * MIB)

    async def work() -> float:
        agent = VirtualAgent(spool.root, VirtualServer(latency_s=0.001, bytes_per_s=1_000_000))
        lane = agent.lane()
        trainings = [Training(agent, spool, f"now{number}") for number in range(4)]
        for training in trainings:
            lane.roster.add(training.stream)
        backlog = agent.stream(old, "old")
        lane.roster.add(backlog)

        async def train(training: Training) -> None:
            while True:
                training.log(60_000)  # compresses to nothing; the reading is what it costs
                lane.roster.ready(training.stream)
                await asyncio.sleep(0.01)

        tasks = [asyncio.ensure_future(train(training)) for training in trainings]
        took = await agent.until(lambda: backlog.ended)
        for task in tasks:
            task.cancel()
        await agent.close()
        return took

    # Alone on the link it would take four seconds; with a quarter of it, sixteen.
    assert run_virtually(work()) < 20


def test_backlog_goes_out_no_faster_than_it_may(spool: Spool) -> None:
    old = write_bulk(spool, "old", 8 * MIB)

    async def work() -> float:
        agent = VirtualAgent(spool.root, VirtualServer(), backfill_bytes_per_s=MIB)
        lane = agent.lane()
        backlog = agent.stream(old, "old")
        lane.roster.add(backlog)
        took = await agent.until(lambda: backlog.ended)
        await agent.close()
        return took

    assert 6.0 <= run_virtually(work()) <= 9.0


def test_no_stream_is_in_two_requests_at_once_and_requests_are_few(spool: Spool) -> None:
    old = [write_bulk(spool, f"old{number}", MIB) for number in range(6)]

    async def work() -> tuple[int, int]:
        agent = VirtualAgent(spool.root, VirtualServer(latency_s=0.2), batch_bytes=128 * 1024)
        under_way: set[bytes] = set()
        passed_on = agent.server.request
        met = 0

        async def request(
            method: str, path: str, headers: dict[str, str], body: bytes | None = None
        ) -> Answer:
            nonlocal met
            streams = {entry[0] for entry in entries_of(body)} if path == INGEST and body else set()
            assert not streams & under_way
            met = max(met, len(streams | under_way))
            under_way.update(streams)
            try:
                return await passed_on(method, path, headers, body)
            finally:
                under_way.difference_update(streams)

        agent.server.request = request  # type: ignore[method-assign]
        lanes = [agent.lane() for _ in range(3)]
        for number, stream in enumerate(old):
            lanes[number % 3].roster.add(agent.stream(stream, f"old{number}"))
        training = Training(agent, spool, "now")
        lanes[0].roster.add(training.stream)
        while len(agent.ended) < 6:
            # It grows faster than requests are answered.
            training.log()
            lanes[0].roster.ready(training.stream)
            await asyncio.sleep(0.03)
        await agent.close()
        return agent.server.under_way_max, met

    most, met = run_virtually(work())

    assert 1 < most <= EndpointSettings().requests_max
    assert met > 1
    # The server takes what does not follow on what it has as a hole: there was none.


def test_backlogs_of_many_users_leave_a_place_for_live_data(spool: Spool) -> None:
    old = [write_bulk(spool, f"old{number}", MIB) for number in range(8)]

    async def work() -> list[float]:
        # Far away and wide: nothing but the places for requests is scarce.
        agent = VirtualAgent(spool.root, VirtualServer(latency_s=5.0), batch_bytes=16 * 1024)
        for number, stream in enumerate(old):
            agent.lane().roster.add(agent.stream(stream, f"old{number}"))
        lane = agent.lane()
        training = Training(agent, spool, "now")
        lane.roster.add(training.stream)
        await agent.until(lambda: agent.endpoint.requests_at_once == 4)
        await asyncio.sleep(11)
        delays = []
        for _ in range(10):
            await asyncio.sleep(1.3)
            end = training.log()
            lane.roster.ready(training.stream)
            delays.append(await agent.until(lambda end=end: training.stream.position >= end))  # type: ignore[misc]
        assert len(agent.ended) < 8
        await agent.close()
        return delays

    assert max(run_virtually(work())) < 5.3


def test_memory_in_flight_stays_within_its_limit(spool: Spool) -> None:
    old = [write_bulk(spool, f"old{number}", 2 * MIB) for number in range(4)]
    memory_bytes = 2 * MIB

    async def work() -> tuple[int, int]:
        agent = VirtualAgent(spool.root, VirtualServer(latency_s=0.1), memory_bytes=memory_bytes)
        lanes = [agent.lane() for _ in range(4)]
        for number, stream in enumerate(old):
            lanes[number].roster.add(agent.stream(stream, f"old{number}"))
        most = 0
        while len(agent.ended) < 4:
            await asyncio.sleep(0.01)
            most = max(most, agent.allowance.memory.used)
        await agent.close()
        return most, agent.allowance.memory.used

    most, left = run_virtually(work())

    assert 0 < most <= memory_bytes
    assert left == 0


def test_line_larger_than_the_memory_limit_is_shipped_all_the_same(spool: Spool) -> None:
    writer = StreamWriter(str(spool.run("large")), make_header("large"), 2**26)
    writer.write(kinds.CONSOLE, bodies.Console(1, "stdout", [os.urandom(MIB).hex()]).encode())
    writer.close()
    stream = writer.header.stream

    async def work() -> bytes:
        agent = VirtualAgent(spool.root, memory_bytes=MIB // MEMORY_PER_BYTE)
        agent.lane().roster.add(agent.stream(stream, "large"))
        await agent.until(lambda: agent.ended)
        await agent.close()
        return agent.server.fake.content(stream)

    assert run_virtually(work()) == spool.content(stream)


def test_stream_that_the_server_fails_at_is_found_and_the_others_go_on(spool: Spool) -> None:
    streams = [spool.write(run=f"run{number}", records=20) for number in range(100)]
    poison = streams[37]

    async def work() -> tuple[float, list[tuple[bytes, str]]]:
        agent = VirtualAgent(spool.root, uniform=lambda low, high: high / 2)

        def fault(path: str, body: bytes) -> Answer | None:
            if path == INGEST and any(entry[0] == poison for entry in entries_of(body)):
                return Answer(500, {}, b'{"error": "internal"}')
            return None

        agent.server.fault = fault
        lane = agent.lane()
        for number, stream in enumerate(streams):
            lane.roster.add(agent.stream(stream, f"run{number}"))
        took = await agent.until(lambda: len(agent.ended) == 99, within_s=7200, step_s=1)
        parked = await agent.until(lambda: [s for s in lane.roster.streams.values() if s.parked], step_s=1)
        found = [(s.id, s.parked.code) for s in lane.roster.streams.values() if s.parked]
        agent.server.fault = lambda path, body: None
        await agent.until(lambda: len(agent.ended) == 100, step_s=1)
        await agent.close()
        assert parked < 7200
        return took, found

    took, found = run_virtually(work())

    assert found == [(poison, "server error")]
    assert took < 1800


def test_request_that_takes_too_long_for_the_link_is_made_smaller_until_it_fits(spool: Spool) -> None:
    stream = write_bulk(spool, "old", MIB)

    async def work() -> int:
        agent = VirtualAgent(spool.root)
        # 10 kB/s and a minute for each request: nothing above 600 kB comes through.
        agent.server.fault = lambda path, body: timed_out() if len(body) > 150_000 else None
        agent.lane().roster.add(agent.stream(stream, "old"))
        await agent.until(lambda: agent.ended, step_s=1)
        await agent.close()
        return len(agent.server.fake.content(stream))

    assert run_virtually(work()) == len(spool.content(stream))


def test_hung_disk_holds_up_nobody_else(spool: Spool) -> None:
    dead = spool.write(run="dead")

    async def work() -> list[float]:
        agent = VirtualAgent(spool.root)
        lane = agent.lane()
        hung = InlineThread("dead mount")
        lane.roster.add(agent.stream(dead, "dead", live=True, thread=hung))
        training = Training(agent, spool, "now")
        lane.roster.add(training.stream)
        await agent.until(lambda: not lane.roster.unlearned and not lane.roster.waiting)
        hung.hung = True
        delays = []
        for _ in range(400):
            await asyncio.sleep(0.25)
            end = training.log()
            lane.roster.ready(training.stream)
            lane.roster.ready(next(s for s in lane.roster.streams.values() if s.id == dead))
            delays.append(await agent.until(lambda end=end: training.stream.position >= end, step_s=0.01))  # type: ignore[misc]
        await agent.close()
        return delays

    delays = run_virtually(work())

    assert max(delays) < 5.5, "once, until one knows"
    assert sorted(delays)[-3] < 0.5


@pytest.mark.parametrize("lanes", [1, 40])
def test_outage_of_a_day_costs_few_requests_and_live_data_come_first(spool: Spool, lanes: int) -> None:
    old = [spool.write(run=f"old{number}", records=50) for number in range(lanes)]

    async def work() -> tuple[int, list[str], int]:
        agent = VirtualAgent(spool.root)
        chosen = [agent.lane() for _ in range(lanes)]
        await asyncio.sleep(1)
        agent.server.requests.clear()
        agent.server.fault = lambda path, body: Answer(502, {}, b"bad gateway")
        trainings = []
        for number, lane in enumerate(chosen):
            lane.roster.add(agent.stream(old[number], f"old{number}"))
            trainings.append(Training(agent, spool, f"now{number}"))
            lane.roster.add(trainings[-1].stream)
        states = set()
        for _ in range(86_400 // 60):
            await asyncio.sleep(60)
            states |= {(lane.state, lane.reason) for lane in chosen}
        assert states == {("retrying", "502: bad gateway")}
        asked = len(agent.server.requests)
        agent.server.fault = lambda path, body: None
        agent.server.requests.clear()
        await agent.until(lambda: len(agent.ended) == lanes)
        order = [
            "live" if any(entry[0] == t.stream.id for t in trainings) else "old"
            for request in agent.server.requests if request.path == INGEST
            for entry in entries_of(request.body)
        ]  # fmt: skip
        first = agent.server.times(SERVER)[-1]
        at_once = sum(1 for at in agent.server.times(OFFSETS) if at < first + 0.02)
        await agent.close()
        return asked, order, at_once

    asked, order, at_once = run_virtually(work())

    assert asked < 86_400 / 300 + 20 + 3 * lanes
    assert order == ["live"] * order.count("live") + ["old"] * order.count("old")
    assert at_once <= 1


def test_plain_msgpack_goes_to_a_server_that_does_not_offer_zstd(spool: Spool) -> None:
    stream = spool.write()

    async def work() -> list[dict[str, str]]:
        agent = VirtualAgent(spool.root)
        agent.server.fake.identity = {
            "server": "tracker", "version": "1", "protocol": [0, 1], "epoch": "epoch-1",
        }  # fmt: skip
        agent.lane().roster.add(agent.stream(stream))
        await agent.until(lambda: [r for r in agent.server.requests if r.path == INGEST and r.status])
        await agent.close()
        return [request.headers for request in agent.server.requests if request.path == INGEST]

    headers = run_virtually(work())

    assert all("Content-Encoding" not in each for each in headers)


def test_request_that_waited_for_its_turn_is_not_sent_when_the_server_asked_for_patience(
    spool: Spool,
) -> None:
    old = [write_bulk(spool, f"old{number}", MIB) for number in range(8)]

    async def work() -> list[float]:
        agent = VirtualAgent(spool.root, VirtualServer(latency_s=0.5), batch_bytes=64 * 1024)
        asked = 0

        def fault(path: str, body: bytes) -> Answer | None:
            nonlocal asked
            asked += path == INGEST
            return Answer(503, {"retry-after": "100"}, b"") if path == INGEST and asked == 9 else None

        agent.server.fault = fault
        lanes = [agent.lane() for _ in range(8)]
        for number, stream in enumerate(old):
            lanes[number].roster.add(agent.stream(stream, f"old{number}"))
        await agent.until(lambda: len(agent.ended) == 8)
        await agent.close()
        times = agent.server.times(INGEST)
        busy = next(r.at for r in agent.server.requests if r.path == INGEST and r.status == 503)
        return [at - busy for at in times if at > busy]

    later = run_virtually(work())

    # Those that were on their way already may end; then nothing for as long as was asked for.
    assert all(at <= 0.51 or at >= 100 for at in later)
    assert any(at >= 100 for at in later)


def test_lane_that_met_a_fault_of_its_own_starts_over_with_nothing_under_way(spool: Spool) -> None:
    stream = spool.write(records=50)

    async def work() -> bytes:
        agent = VirtualAgent(spool.root, batch_bytes=500)
        lane = agent.lane()
        agent.tasks.pop().cancel()
        lane.roster.add(agent.stream(stream))
        lane.roster.add(agent.stream(spool.write(run="other"), "other", live=True))
        broken = lane._uploader.send
        lane._uploader.send = lambda parts: (_ for _ in ()).throw(RuntimeError("a fault"))  # type: ignore[assignment,method-assign,return-value]
        with pytest.raises(RuntimeError, match="a fault"):
            await lane.run()
        lane._uploader.send = broken  # type: ignore[method-assign]
        agent.tasks.append(asyncio.ensure_future(lane.run()))
        await agent.until(lambda: lane.roster.streams and len(agent.ended) >= 1)
        await agent.close()
        return agent.server.fake.content(stream)

    assert run_virtually(work()) == spool.content(stream)
