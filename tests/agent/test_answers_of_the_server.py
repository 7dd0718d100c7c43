"""Every class of answer over a real socket:

nothing is lost, nothing is doubled, one fault hinders nobody else.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.agent.conftest import Spool, Start, eventually, make_header
from tests.support.fake_tracker_server import (
    Answered,
    FakeTrackerServer,
    Hang,
    Late,
    LoseResponse,
    Reset,
    Status,
    Twice,
)

INGEST = "/api/v1/ingest"
OFFSETS = "/api/v1/streams/offsets"


@pytest.mark.parametrize(
    "fault",
    [
        Status(500),
        Status(502),
        Status(409),
        Status(418),
        Status(429, {"Retry-After": "0"}),
        Status(503, {"Retry-After": "garbage"}),
        Status(307, {"Location": "/api/v1/ingest"}),
        Status(401),
        Status(403),
        Status(404),
        Answered(200),
        Answered(204, b""),
        Answered(200, b'{"epoch": "epoch-1", "streams": [{"uid": 0, "stream": "00", "next": -1}]}'),
        Answered(200, b'{"epoch": "epoch-1", "streams": []}'),
        LoseResponse(),
        Reset(),
        Late(0.3),
        Twice(),
        Hang(commit=True),
        Hang(commit=False),
    ],
    ids=repr,
)
@pytest.mark.parametrize("path", [INGEST, OFFSETS])
async def test_stream_arrives_once_and_whole_whatever_is_answered_first(
    spool: Spool, server: FakeTrackerServer, start: Start, fault: Any, path: str
) -> None:
    streams = [spool.write(run=f"run{number}", records=300) for number in range(3)]
    server.faults[path] = [fault, None, fault, fault] if path == INGEST else [fault]

    async with start(batch_bytes=4000, request_timeout_s=0.5) as pipeline:
        await eventually(lambda: all(server.content(s) == spool.content(s) for s in streams))
        await eventually(lambda: pipeline.status()["lanes"][0]["state"] == "shipping")

    for stream in streams:
        stored = server.stored(stream)
        assert stored is not None and stored.gaps == []
    assert server.faults[path] == [], "every fault was met"


async def test_refused_record_becomes_a_gap_and_everything_else_arrives(
    spool: Spool, server: FakeTrackerServer, start: Start
) -> None:
    good = spool.write(run="good", records=200)
    bad = spool.write(run="bad", records=200, text="poison")
    server.refuse = lambda data: b"poison" in data and _steps(data) & {17, 18, 99} != set()

    async with start() as pipeline:
        await eventually(lambda: (s := server.stored(bad)) and s.next == len(spool.content(bad)))
        await eventually(lambda: server.content(good) == spool.content(good))
        losses = pipeline.status()["losses"]

    stored = server.stored(bad)
    assert stored is not None
    assert len(stored.gaps) == 3
    assert all("I do not like it" in reason for _, _, reason in stored.gaps)
    expected = bytearray(spool.content(bad))
    for offset, size, _ in reversed(stored.gaps):
        del expected[offset : offset + size]
    assert stored.content() == bytes(expected)
    assert sum(loss["gaps"] for loss in losses.values()) == 3


def _steps(data: bytes) -> set[int]:
    """Steps of the METRICS lines in some lines: a byte of the body, which is [time, step, {...}]."""
    found = set()
    position = 0
    while (at := data.find(b"\x81\xa6poison", position)) >= 0:
        if data[at - 1] < 128:
            found.add(data[at - 1])
        position = at + 1
    return found


@pytest.mark.parametrize("count", [1, 4, 5, 6, 7, 8, 9, 40])
async def test_server_that_refuses_everything_with_400_costs_nothing(
    spool: Spool, server: FakeTrackerServer, start: Start, count: int
) -> None:
    stream = spool.write(records=50)
    server.faults[INGEST] = [Status(400)] * count

    async with start() as pipeline:
        await eventually(lambda: server.content(stream) == spool.content(stream))

        assert pipeline.status()["losses"] == {}
    assert server.faults[INGEST] == []


async def test_too_large_requests_are_halved_until_they_fit(
    spool: Spool, server: FakeTrackerServer, start: Start
) -> None:
    streams = [spool.write(run=f"run{number}", records=500) for number in range(4)]
    server.body_bytes_max = 3000

    async with start() as pipeline:
        await eventually(lambda: all(server.content(s) == spool.content(s) for s in streams))

        assert pipeline.status()["losses"] == {}
        assert pipeline.status()["lanes"][0]["batch_bytes"] <= 3000


async def test_single_record_that_is_too_large_becomes_a_gap(
    spool: Spool, server: FakeTrackerServer, start: Start
) -> None:
    stream = spool.write(records=20)
    large = spool.write(run="large", records=3, text="x" * 5000)
    server.body_bytes_max = 4000

    async with start():
        await eventually(lambda: server.content(stream) == spool.content(stream))
        await eventually(lambda: (s := server.stored(large)) and s.next == len(spool.content(large)))

    stored = server.stored(large)
    assert stored is not None
    assert len(stored.gaps) == 3
    assert all("413" in reason for _, _, reason in stored.gaps)


async def test_unknown_key_parks_the_lane_and_it_ships_when_the_key_is_known(
    spool: Spool, server: FakeTrackerServer, start: Start
) -> None:
    stream = spool.write()
    server.keys.clear()

    async with start() as pipeline:
        lane = await eventually(
            lambda: next((x for x in pipeline.status()["lanes"] if x["state"] == "parked"), None)
        )
        assert "401" in lane["reason"]
        server.keys.add("key")

        await eventually(lambda: server.content(stream) == spool.content(stream))


@pytest.mark.parametrize("answer", [{"server": "nginx"}, {"server": "tracker", "protocol": [7, 9]}, {}])
async def test_url_of_another_server_gets_no_data_and_is_named(
    spool: Spool, server: FakeTrackerServer, start: Start, answer: dict[str, Any]
) -> None:
    spool.write()
    server.identity = {"version": "1", "epoch": "e", **answer} if answer else {"hello": "world"}

    async with start() as pipeline:
        lane = await eventually(
            lambda: next((x for x in pipeline.status()["lanes"] if x["state"] == "parked"), None)
        )

        expected = "speaks protocol 7 to 9" if "protocol" in answer else "not a Tracker server"
        assert expected in lane["reason"]
    assert {path for path, _ in server.requests} == {"/api/v1/server"}


async def test_forbidden_stream_is_parked_alone_and_tried_again(
    spool: Spool, server: FakeTrackerServer, start: Start
) -> None:
    hers, his = spool.write(run="hers"), spool.write(run="his")
    server.forbidden.add(hers)

    async with start() as pipeline:
        await eventually(lambda: server.content(his) == spool.content(his))
        parked = await eventually(lambda: pipeline.status()["parked"])
        assert [(p["stream"], p["code"]) for p in parked] == [(hers.hex(), "forbidden")]
        server.forbidden.clear()

        await eventually(lambda: server.content(hers) == spool.content(hers))
        assert pipeline.status()["losses"] == {}


async def test_line_that_the_server_cannot_verify_becomes_a_gap(
    spool: Spool, server: FakeTrackerServer, start: Start
) -> None:
    stream = spool.write(records=40, text="odd")

    def bad_lines(data: bytes) -> int | None:
        position = 0
        while (at := data.find(b"\x81\xa3odd", position)) >= 0:
            if data[at - 1] == 7:
                return data.rfind(b"\x93\x01\xce", 0, at)
            position = at + 1
        return None

    server.bad_lines = bad_lines

    async with start():
        await eventually(lambda: (s := server.stored(stream)) and s.next == len(spool.content(stream)))

    stored = server.stored(stream)
    assert stored is not None
    assert len(stored.gaps) == 1
    assert len(stored.content()) + stored.gaps[0][1] == len(spool.content(stream))


async def test_restored_server_gets_again_what_it_lost(
    spool: Spool, server: FakeTrackerServer, start: Start
) -> None:
    stream = spool.write(records=100)

    async with start() as pipeline:
        await eventually(lambda: pipeline.status()["streams"]["shipped"] == 1)
        server.streams.clear()
        server.epoch = "epoch-2"
        other = spool.write(run="other")

        await eventually(lambda: server.content(stream) == spool.content(stream))
        await eventually(lambda: server.content(other) == spool.content(other))


async def test_server_that_lost_data_without_saying_so_is_caught_up_by_the_hole(
    spool: Spool, server: FakeTrackerServer, start: Start
) -> None:
    header_only = spool.write(run="a", records=5, exit_code=None)

    async with start(batch_bytes=500) as pipeline:
        await eventually(lambda: server.content(header_only) == spool.content(header_only))
        stream = spool.write(run="b", records=2000)
        await eventually(lambda: server.stored(stream) is not None)
        del server.streams["key"][next(k for k in server.streams["key"] if k[1] == stream)]

        await eventually(lambda: server.content(stream) == spool.content(stream))
        assert pipeline.status()["losses"] == {}


async def test_other_bytes_under_the_same_id_are_parked_as_diverged(
    spool: Spool, server: FakeTrackerServer, start: Start
) -> None:
    stream = spool.write(records=100, exit_code=None)
    other = spool.write(run="other")
    async with start():
        await eventually(lambda: server.content(stream) == spool.content(stream))
    before = server.content(stream)
    (path,) = spool.segments(stream)
    path.unlink()
    for live in path.parent.glob("*.live"):
        live.unlink()
    spool.write(records=300, header=make_header("run", stream), text="lies")

    async with start() as pipeline:
        parked = await eventually(lambda: pipeline.status()["parked"])

        assert [(p["stream"], p["code"]) for p in parked] == [(stream.hex(), "diverged")]
    assert server.content(stream) == before
    assert server.content(other) == spool.content(other)


async def test_user_key_ships_his_streams_and_a_new_key_is_picked_up(
    spool: Spool, server: FakeTrackerServer, start: Start
) -> None:
    server.keys |= {"his", "new"}
    credentials = spool.user / "credentials"
    credentials.write_text('{"%s": "revoked"}' % server.url)
    stream = spool.write()

    async with start() as pipeline:
        await eventually(lambda: any(x["state"] == "parked" for x in pipeline.status()["lanes"]))
        assert server.stored(stream) is None
        credentials.write_text('{"%s/": "new"}' % server.url)

        await eventually(lambda: server.content(stream, key="new") == spool.content(stream))
    assert server.stored(stream, key="key") is None
