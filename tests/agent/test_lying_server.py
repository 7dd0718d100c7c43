"""Servers that answer what cannot be, refuse everything, or were restored: all that is lost is counted."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.agent.conftest import Spool
from tests.agent.test_lane import entries_of
from tests.support.virtual_lane import VirtualAgent
from tests.support.virtual_server import INGEST, OFFSETS, VirtualServer
from tests.support.virtual_time import run_virtually
from tracker.protocol import kinds
from tracker.protocol.renaming import rename_lines, renamed_id
from tracker_agent.batch import line_ends
from tracker_agent.exchange import Answer, TransportError
from tracker_agent.losses import LossReason, reason_of
from tracker_agent.uploader import REFUSALS_MAX, REFUSALS_PER_LANE_MAX

Change = Callable[[dict[str, Any]], Any]


class Liar(VirtualServer):
    """Commits, or not, and then changes what it says of the streams."""

    def __init__(self) -> None:
        super().__init__()
        self.lies: list[tuple[str, Change]] = []  # used up one by one, each at a path

    def _truth(self, request: Any) -> Answer:
        answer = super()._truth(request)
        if not self.lies or request.path != self.lies[0][0] or answer.status != 200:
            return answer
        _, change = self.lies.pop(0)
        fields = json.loads(answer.body)
        changed = change(fields)
        return changed if isinstance(changed, Answer) else Answer(200, {}, json.dumps(fields).encode())


def each(**changes: Any) -> Change:
    """Change each stream of an answer: a value, or a function of the old one."""

    def change(fields: dict[str, Any]) -> None:
        for stream in fields["streams"]:
            for name, value in changes.items():
                stream[name] = value(stream.get(name)) if callable(value) else value

    return change


def no_streams(fields: dict[str, Any]) -> None:
    fields["streams"] = []


def twice(fields: dict[str, Any]) -> None:
    fields["streams"] += [dict(stream, next=0) for stream in fields["streams"]]


def strangers(fields: dict[str, Any]) -> None:
    fields["streams"] += [{"uid": 7, "stream": "ab" * 16, "next": 12345}]


def other_epoch(fields: dict[str, Any]) -> None:
    fields["epoch"] = f"epoch-{random.random()}"


def hole_at_the_start(fields: dict[str, Any]) -> None:
    each(error="hole", reason="lost it", next=0)(fields)


def status(code: int, body: bytes = b"<html>oops</html>") -> Change:
    return lambda fields: Answer(code, {}, body)


LIES: dict[str, Change] = {
    "next beyond what was sent": each(next=lambda value: value + 10_000),
    "next far beyond": each(next=2**62),
    "next goes back": each(next=0),
    "next within a line": each(next=lambda value: value - 3),
    "next is null": each(next=None),
    "hole that is none": hole_at_the_start,
    "no streams": no_streams,
    "streams twice": twice,
    "streams nobody sent": strangers,
    "another epoch each time": other_epoch,
    "unknown error": each(error="phase of the moon", reason="full"),
    "bad_lines nowhere": each(error="bad_lines", at=2**40, reason="somewhere"),
    "not an object": status(200, b"[]"),
    "deep": status(200, b"[" * 100_000),
    "html": status(200),
    "409": status(409),
    "409 that explains": lambda fields: Answer(409, {}, json.dumps(fields).encode()),
    "408": status(408),
    "425": status(425),
    "429": status(429),
    "505": status(505),
    "302": status(302),
    "401": status(401),
    "403": status(403),
    "404": status(404),
    "599": status(599),
    "199": status(199),
}


async def ship(agent: VirtualAgent, spool: Spool, streams: list[bytes]) -> None:
    lane = agent.lane()
    for number, stream in enumerate(streams):
        lane.roster.add(agent.stream(stream, f"run{number}"))
    await agent.until(lambda: len(agent.ended) >= len(streams), within_s=7 * 86_400, step_s=1)
    await agent.close()
    for stream in streams:
        stored = agent.server.fake.stored(stream)
        assert stored is not None
        assert (stored.content(), stored.gaps) == (spool.content(stream), [])
    assert agent.counters.losses == {}


@pytest.mark.parametrize("path", [INGEST, OFFSETS])
@pytest.mark.parametrize("lie", list(LIES))
@pytest.mark.parametrize("times", [1, 30])
def test_lie_loses_and_doubles_nothing_and_is_not_believed_for_ever(
    spool: Spool, lie: str, path: str, times: int
) -> None:
    streams = [spool.write(run=f"run{number}", records=30) for number in range(3)]

    async def work() -> int:
        server = Liar()
        server.lies = [(path, LIES[lie])] * times
        # Whatever the server says, it has committed: only its answers are wrong.
        await ship(VirtualAgent(spool.root, server, batch_bytes=1500), spool, streams)
        return len(server.requests)

    assert run_virtually(work()) < 60 * times + 200, "no hot loop"


@pytest.mark.parametrize(
    "lie", ["no streams", "next goes back", "hole that is none", "next beyond what was sent"]
)
def test_server_that_always_says_what_cannot_be_is_asked_rarely(spool: Spool, lie: str) -> None:
    stream = spool.write(run="run0")

    async def work() -> int:
        server = Liar()
        server.lies = [(INGEST, LIES[lie])] * 100_000
        # It stores nothing either: a server that is wrong through and through.
        server.fake._commit = lambda stored, *_: {"next": stored.next}  # type: ignore[method-assign]
        agent = VirtualAgent(spool.root, server)
        agent.lane().roster.add(agent.stream(stream, "run0"))
        await asyncio.sleep(7200)
        await agent.close()
        return len(server.requests)

    assert run_virtually(work()) < 7200 / 300 * 20


def test_lies_of_all_kinds_in_any_order_lose_and_double_nothing(spool: Spool) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    dice = random.Random(seed)
    streams = [spool.write(run=f"run{number}", records=60) for number in range(4)]

    async def work() -> None:
        server = Liar()
        server.lies = [(dice.choice([INGEST, OFFSETS]), LIES[dice.choice(list(LIES))]) for _ in range(150)]
        await ship(VirtualAgent(spool.root, server, batch_bytes=1500, uniform=dice.uniform), spool, streams)

    run_virtually(work())


@settings(max_examples=25, deadline=None)
@given(limit=st.integers(60, 5000), sizes=st.lists(st.integers(0, 4000), min_size=1, max_size=30))
def test_after_413_all_that_fits_arrives_and_only_single_lines_that_do_not_become_gaps(
    tmp_path_factory: pytest.TempPathFactory, limit: int, sizes: list[int]
) -> None:
    spool = Spool(tmp_path_factory.mktemp("spool"))
    small = spool.write(run="run0", records=5)
    varied = [spool.write(run=f"run{n + 1}", records=2, text="x" * size) for n, size in enumerate(sizes)]

    async def work() -> dict[bytes, Any]:
        agent = VirtualAgent(spool.root)
        agent.server.fake.body_bytes_max = limit + 400  # what surrounds a line is not what counts here
        agent.server.fault = lambda path, body: None
        lane = agent.lane()
        for number, stream in enumerate([small, *varied]):
            lane.roster.add(agent.stream(stream, f"run{number}"))
        await agent.until(lambda: len(agent.ended) == 1 + len(varied), within_s=7 * 86_400, step_s=1)
        await agent.close()
        return {stream: agent.server.fake.stored(stream) for stream in varied}

    for stream, stored in run_virtually(work()).items():
        whole = spool.content(stream)
        assert stored.next == len(whole)
        for offset, size, reason in stored.gaps:
            assert size > limit - 200, "a line that fits was given up"
            assert reason_of(reason) is LossReason.TOO_LARGE and "413" in reason
            assert whole[offset] == 0x93
        assert len(stored.content()) + sum(size for _, size, _ in stored.gaps) == len(whole)


@pytest.mark.parametrize("refusal", [400, 422])
def test_one_refused_line_among_many_is_found_in_few_requests(spool: Spool, refusal: int) -> None:
    streams = [spool.write(run=f"run{number}", records=500) for number in range(16)]
    bad = spool.write(run="run16", records=250, text="poison")

    async def work() -> tuple[int, list[Any]]:
        agent = VirtualAgent(spool.root)
        agent.server.fake.refuse_status = refusal
        agent.server.fake.refuse = lambda data: b"\x81\xa6poison" in data and _has_step(data, 77)
        lane = agent.lane()
        for number, stream in enumerate([*streams, bad]):
            lane.roster.add(agent.stream(stream, f"run{number}"))
        await agent.until(lambda: len(agent.ended) == 17, step_s=1)
        await agent.close()
        stored = agent.server.fake.stored(bad)
        assert stored is not None
        return len(agent.server.times(INGEST)), stored.gaps

    requests, gaps = run_virtually(work())

    assert len(gaps) == 1 and reason_of(gaps[0][2]) is LossReason.REFUSED
    assert requests < 2 * 15 + 20, "about two for each halving of 8,000 lines, and a few around them"


def _has_step(data: bytes, step: int) -> bool:
    return bytes([step]) + b"\x81\xa6poison" in data


def test_server_that_takes_no_record_at_all_costs_none(spool: Spool) -> None:
    stream = spool.write(run="run0", records=200)

    async def work() -> tuple[int, list[Any], str]:
        agent = VirtualAgent(spool.root)
        refusing = True
        # As an application firewall does that dislikes bodies: an empty request passes.
        agent.server.fake.refuse = lambda data: refusing
        lane = agent.lane()
        shipped = agent.stream(stream, "run0")
        lane.roster.add(shipped)
        await agent.until(lambda: shipped.parked, step_s=1)
        reason = shipped.parked.reason if shipped.parked else ""
        await agent.until(lambda: agent.clock.monotonic() > 87_400, within_s=1e6, step_s=60)
        asked = len(agent.server.requests)
        refusing = False
        await agent.until(lambda: agent.ended, step_s=1)
        await agent.close()
        stored = agent.server.fake.stored(stream)
        assert stored is not None
        return asked, stored.gaps, reason

    asked, gaps, reason = run_virtually(work())

    assert gaps == []
    assert "refuses the HEADER of a segment" in reason
    assert asked < 86_400 / 300 * 20, "a few requests every five minutes"


@pytest.mark.parametrize("takes_what_it_has", [False, True])
def test_server_that_begins_to_refuse_everything_is_given_few_gaps_or_none(
    spool: Spool, takes_what_it_has: bool
) -> None:
    streams = [spool.write(run=f"run{number}", records=200) for number in range(20)]

    async def work() -> tuple[int, int, int]:
        agent = VirtualAgent(spool.root, batch_bytes=4000)
        taken = 0

        def refuse(data: bytes) -> bool:
            nonlocal taken
            taken += 1
            # A segment's begin is what the agent asks with whether the server takes anything at all.
            begins = data[1] == kinds.HEADER and len(line_ends(data)) == 1
            return taken > 10 and not (takes_what_it_has and begins)

        agent.server.fake.refuse = refuse
        lane = agent.lane()
        for number, stream in enumerate(streams):
            lane.roster.add(agent.stream(stream, f"run{number}"))
        await agent.until(lambda: lane.state in {"parked", "retrying"}, step_s=0.1)
        await asyncio.sleep(290)
        most = max(len(each.gaps) for each in agent.server.fake.streams["key"].values())
        gaps = sum(loss.gaps for loss in agent.counters.losses.values())
        asked = len(agent.server.times(INGEST))
        await agent.close()
        return most, gaps, asked

    most, gaps, asked = run_virtually(work())

    if takes_what_it_has:
        assert 0 < most <= REFUSALS_MAX
        assert 0 < gaps <= REFUSALS_PER_LANE_MAX
    else:
        assert gaps == 0
        assert asked < 600


def test_agent_that_starts_at_a_refused_record_gets_past_it(spool: Spool) -> None:
    stream = spool.write(run="run0", records=100, text="poison")

    async def work() -> list[Any]:
        agent = VirtualAgent(spool.root)
        agent.server.fake.refuse = lambda data: _has_step(data, 40)
        first = agent.lane()
        shipped = agent.stream(stream, "run0")
        first.roster.add(shipped)
        await agent.until(lambda: shipped.refused)
        await agent.close()
        # What it knew is gone with it: this lane has never seen the server take anything.
        again = VirtualAgent(spool.root, agent.server)
        second = again.lane()
        second.roster.add(again.stream(stream, "run0"))
        await again.until(lambda: again.ended)
        await again.close()
        stored = again.server.fake.stored(stream)
        assert stored is not None and stored.next == len(spool.content(stream))
        return stored.gaps

    assert len(run_virtually(work())) == 1


def test_restored_server_gets_again_what_it_lost_and_what_is_gone_becomes_a_gap(spool: Spool) -> None:
    stream = spool.write(run="run0", records=400, segment_bytes=4096)
    kept = spool.write(run="run1", records=400, segment_bytes=4096)
    whole = spool.content(stream)
    kept_whole = spool.content(kept)

    async def work() -> tuple[Any, Any, int, dict[str, Any]]:
        agent = VirtualAgent(spool.root)
        lane = agent.lane()
        shipped, other = agent.stream(stream, "run0"), agent.stream(kept, "run1")
        lane.roster.add(shipped)
        lane.roster.add(other)
        await agent.until(lambda: len(agent.ended) == 2)
        # The backup had nothing of either; of one stream the first segments were cleaned up meanwhile,
        # and no open descriptor keeps them readable.
        agent.files.close_all()
        for path in spool.segments(stream)[:3]:
            path.unlink()
        agent.scan(shipped.entry.tail)
        agent.server.fake.streams.clear()
        agent.server.fake.epoch = "epoch-2"
        lane.roster.ready(shipped)
        shipped.ended = False
        agent.ended.clear()
        late = agent.stream(spool.write(run="run2"), "run2")
        lane.roster.add(late)
        await agent.until(lambda: len(agent.ended) >= 3, step_s=1)
        await agent.close()
        fake = agent.server.fake
        return fake.stored(stream), fake.stored(kept), agent.restored, agent.counters.to_json()["losses"]

    stored, stored_kept, restored, losses = run_virtually(work())

    assert restored == 1
    assert (stored_kept.content(), stored_kept.gaps) == (kept_whole, [])
    ((offset, size, reason),) = stored.gaps
    assert offset == 0 and stored.content() == whole[size:]
    assert reason_of(reason) is LossReason.SERVER_LOST
    assert [(each["code"], each["gaps"], each["bytes"]) for each in losses.values()] == [
        ("server_lost", 1, size)
    ]


def test_restored_server_gets_its_data_though_nothing_new_is_written_anywhere(spool: Spool) -> None:
    streams = [spool.write(run=f"run{number}", records=40) for number in range(3)]

    async def work() -> tuple[float, int]:
        agent = VirtualAgent(spool.root)
        for number, stream in enumerate(streams):
            agent.server.fake.keys.add(f"key{number}")
            agent.lane(f"key{number}").roster.add(agent.stream(stream, f"run{number}"))
        await agent.until(lambda: len(agent.ended) == 3)
        agent.server.fake.streams.clear()
        agent.server.fake.epoch = "epoch-2"
        took = await agent.until(lambda: len(agent.ended) == 6, step_s=1)
        await agent.until(lambda: agent.clock.monotonic() > 20_000, within_s=1e6, step_s=60)
        await agent.close()
        for number, stream in enumerate(streams):
            assert agent.server.fake.content(stream, f"key{number}") == spool.content(stream)
        return took, agent.restored

    took, restored = run_virtually(work())

    assert took < 300 + 20, "the time between two looks at an idle server"
    assert restored == 3, "each lane hears of it once"


def test_answer_from_before_the_restoration_moves_nothing(spool: Spool) -> None:
    stream = spool.write(run="run0", records=40)
    other = spool.write(run="run1", records=40)

    async def work() -> tuple[int, bytes, bytes]:
        agent = VirtualAgent(spool.root)
        first, second = agent.lane(), agent.lane()
        first.roster.add(agent.stream(stream, "run0"))
        await agent.until(lambda: len(agent.ended) == 1)
        # An answer that was given before is still on its way when another lane hears of the new epoch.
        sent_under = agent.endpoint.restorations
        agent.server.fake.streams.clear()
        agent.server.fake.epoch = "epoch-2"
        second.roster.add(agent.stream(other, "run1"))
        await agent.until(lambda: agent.endpoint.epoch == "epoch-2")
        assert not agent.endpoint.hear("epoch-1", sent_under)
        await agent.until(lambda: len(agent.ended) == 3)
        await agent.close()
        fake = agent.server.fake
        return agent.endpoint.restorations, fake.content(stream), fake.content(other)

    assert run_virtually(work()) == (1, spool.content(stream), spool.content(other))


def test_diverged_stream_stays_parked_until_it_is_shipped_as_new(spool: Spool) -> None:
    stream = spool.write(run="run0", records=50, segment_bytes=2048)
    mine = spool.content(stream)

    async def work() -> tuple[str, bytes, list[bytes], int]:
        agent = VirtualAgent(spool.root, batch_bytes=1000)
        # Somebody else's bytes lie under this id.
        foreign = Spool(spool.root.parent / "other").write(run="run0", records=50, header=None)
        agent.server.fake.streams["key"] = {}
        lane = agent.lane()
        shipped = agent.stream(stream, "run0")
        other = agent.server.fake.streams["key"]
        other[shipped.key] = agent.server.fake.streams.get("x", {}).get(shipped.key) or _stored(60, 99)
        lane.roster.add(shipped)
        await agent.until(lambda: shipped.parked, step_s=1)
        code = shipped.parked.code if shipped.parked else ""
        new_id = renamed_id(stream, "machine")
        lane.ship_as_new(shipped, new_id)
        await agent.until(lambda: agent.ended, step_s=1)
        # A restart of the agent goes on under the new id, having nothing to send.
        again = agent.stream(stream, "run0")
        again.alias = new_id
        agent.server.requests.clear()
        second = agent.lane()
        lane.roster.remove(shipped)
        second.roster.add(again)
        await agent.until(lambda: len(agent.ended) == 2, step_s=1)
        sent = [r for r in agent.server.requests if r.path == INGEST and entries_of(r.body)]
        # What lies under the new id is compared as what lies under any other.
        stored = agent.server.fake.stored(new_id)
        assert stored is not None and stored.crc is not None
        stored.crc ^= 1
        second.retry(again)
        await agent.until(lambda: again.parked is not None and again.parked.code == "diverged", step_s=1)
        await agent.close()
        del foreign
        return code, new_id, [agent.server.fake.content(new_id)], len(sent)

    code, new_id, (stored,), sent = run_virtually(work())

    assert code == "diverged"
    assert len(stored) == len(mine)
    expected = b"".join(
        rename_lines(path.read_bytes(), stream, number, new_id)
        for number, path in enumerate(spool.segments(stream))
    )
    assert stored == expected
    assert sent == 0


def _stored(following: int, crc: int) -> Any:
    from tests.support.fake_tracker_server import Stored

    return Stored(next=following, crc=crc, last=0)


def test_connection_that_never_answers_ingest_is_tried_for_ever(spool: Spool) -> None:
    stream = spool.write(run="run0")

    async def work() -> int:
        agent = VirtualAgent(spool.root)
        agent.server.fault = lambda path, body: TransportError("reset") if path == INGEST else None
        lane = agent.lane()
        lane.roster.add(agent.stream(stream, "run0"))
        await agent.until(lambda: agent.clock.monotonic() > 7 * 86_400, within_s=1e9, step_s=600)
        asked = len(agent.server.times(INGEST))
        agent.server.fault = lambda path, body: None
        await agent.until(lambda: agent.ended, step_s=1)
        await agent.close()
        return asked

    asked = run_virtually(work())

    assert 7 * 86_400 / 300 * 0.5 < asked < 7 * 86_400 / 300 * 3
