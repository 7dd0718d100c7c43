"""Agents and servers of neighbouring versions understand each other; recorded exchanges stay as they are."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.agent.conftest import Spool
from tests.golden.protocol import generate
from tests.support.server_process import ServerProcess
from tests.support.virtual_lane import VirtualAgent
from tests.support.virtual_server import INGEST, SERVER, VirtualServer
from tests.support.virtual_time import run_virtually
from tracker_agent import answers
from tracker_agent.exchange import Answer

GOLDEN = Path(generate.__file__).parent
EXCHANGES: list[dict[str, Any]] = json.loads((GOLDEN / generate.FILE).read_text())
BY_NAME = {exchange["name"]: exchange for exchange in EXCHANGES}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with ServerProcess(tmp_path_factory.mktemp("server")) as running:
        yield running


def recorded(name: str) -> Answer:
    exchange = BY_NAME[name]
    return Answer(exchange["status"], {}, json.dumps(exchange["answer"]).encode())


def without_prose(answer: Any) -> Any:
    """Leave out what is written for people: its wording is no promise."""
    if isinstance(answer, dict):
        prose = {"reason", "hint"}
        return {name: "…" if name in prose else without_prose(value) for name, value in answer.items()}
    return [without_prose(each) for each in answer] if isinstance(answer, list) else answer


def test_every_exchange_is_recorded() -> None:
    assert [ask.name for ask in generate.asks()] == [exchange["name"] for exchange in EXCHANGES]


@pytest.mark.parametrize("ask", generate.asks(), ids=lambda ask: ask.name)
def test_agent_asks_what_was_recorded_byte_for_byte(ask: generate.Ask) -> None:
    exchange = BY_NAME[ask.name]
    body = (GOLDEN / exchange["body"]).read_bytes() if exchange["body"] else None

    assert generate.body_of(ask) == body
    assert generate.headers_of(ask) == exchange["headers"]
    assert generate.target_of(ask)[:2] == (exchange["method"], exchange["path"])


def test_real_server_answers_what_was_recorded(server: ServerProcess) -> None:
    found = generate.answers_of(server, EXCHANGES, GOLDEN)

    for exchange, answer in zip(EXCHANGES, found, strict=True):
        expected, got = without_prose(exchange["answer"]), without_prose(answer["answer"])
        if exchange["name"] == "server":
            # What a server offers grows; what version 1 offered stays.
            assert set(expected.pop("capabilities")) <= set(got.pop("capabilities"))
            expected = {name: got[name] if name not in expected else expected[name] for name in got}
        assert (answer["status"], got) == (exchange["status"], expected), exchange["name"]


@pytest.mark.parametrize(
    ("name", "following", "error", "at"),
    [
        ("segment", 414, None, None),
        ("same_again", 414, None, None),
        ("hole", 414, "hole", None),
        ("bad_lines", 414, "bad_lines", 830),
        ("second_segment", 851, None, None),
        ("gap", 858, None, None),
        ("other_bytes_under_the_same_id", 851, "diverged", None),
        ("no_header", 0, "bad_stream", None),
    ],
)
def test_agent_understands_the_recorded_answers(
    name: str, following: int, error: str | None, at: int | None
) -> None:
    answer = answers.parse_ingest(recorded(name), 0.0)

    assert isinstance(answer, answers.Accepted)
    assert [(each.next, each.error, each.at) for each in answer.streams] == [(following, error, at)]


def test_agent_understands_recorded_offsets_refusals_and_the_server_itself() -> None:
    offsets = answers.parse_offsets(recorded("offsets"), 0.0)
    behind_a_gap = answers.parse_offsets(recorded("offsets_behind_a_gap"), 0.0)
    server = answers.parse_server(recorded("server"), 0.0)

    assert isinstance(offsets, answers.Offsets) and isinstance(behind_a_gap, answers.Offsets)
    assert [(each.next, each.last) for each in offsets.streams] == [(851, 830), (0, None)]
    assert [(each.next, each.last) for each in behind_a_gap.streams] == [(858, None)]
    assert isinstance(server, answers.Server) and "zstd" in server.capabilities
    assert isinstance(answers.parse_ingest(recorded("unknown_key"), 0.0), answers.Locked)
    assert isinstance(answers.parse_ingest(recorded("no_scope"), 0.0), answers.Locked)
    assert isinstance(answers.parse_ingest(recorded("newer_protocol"), 0.0), answers.Locked)
    assert isinstance(answers.parse_ingest(recorded("not_msgpack"), 0.0), answers.Rejected)


# Agent N with server N-1, N and N+1.


def neighbour(protocol: list[int], **more: Any) -> VirtualServer:
    """A server of another version: it names other versions, and more than this agent knows."""
    server = VirtualServer()
    server.fake.identity = {
        "server": "tracker", "version": "9.0", "protocol": protocol, "epoch": "epoch-1", **more,
    }  # fmt: skip
    inner = server._truth

    def truth(request: Any) -> Answer:
        answer = inner(request)
        fields = json.loads(answer.body) | {"colour": ["red", {"deep": None}]}
        for stream in fields.get("streams", []):
            stream |= {"shade": 7, "reason": None}
        return Answer(answer.status, {}, json.dumps(fields).encode())

    server._truth = truth  # type: ignore[method-assign]
    return server


@pytest.mark.parametrize(
    ("protocol", "more"),
    [
        ([1, 1], {"capabilities": ["zstd"]}),
        ([1, 2], {"capabilities": ["zstd", "teleport"], "motto": "onwards"}),
        ([0, 1], {}),
        ([0, 9], {"capabilities": []}),
    ],
)
def test_agent_ships_to_a_server_of_a_neighbouring_version(
    spool: Spool, protocol: list[int], more: dict[str, Any]
) -> None:
    stream = spool.write(records=30)

    async def work() -> tuple[bytes, set[str]]:
        agent = VirtualAgent(spool.root, neighbour(protocol, **more))
        agent.lane().roster.add(agent.stream(stream))
        await agent.until(lambda: agent.ended)
        await agent.close()
        asked = {r.headers["X-Tracker-Protocol"] for r in agent.server.requests}
        return agent.server.fake.content(stream), asked

    assert run_virtually(work()) == (spool.content(stream), {"1"})


@pytest.mark.parametrize("protocol", [[2, 3], [0, 0]])
def test_server_too_far_away_gets_nothing_and_the_reason_names_both_versions(
    spool: Spool, protocol: list[int]
) -> None:
    stream = spool.write(records=30)

    async def work() -> tuple[str, str, set[str], bytes]:
        agent = VirtualAgent(spool.root, neighbour(protocol))
        lane = agent.lane()
        lane.roster.add(agent.stream(stream))
        await agent.until(lambda: lane.state == "parked")
        state, reason = lane.state, lane.reason
        asked = {request.path for request in agent.server.requests}
        # The server is upgraded, or the older one comes back: nobody needs to restart the agent.
        assert agent.server.fake.identity is not None
        agent.server.fake.identity["protocol"] = [1, 2]
        await agent.until(lambda: agent.ended, step_s=1)
        await agent.close()
        return state, reason, asked, agent.server.fake.content(stream)

    state, reason, asked, content = run_virtually(work())

    assert state == "parked"
    assert f"speaks protocol {protocol[0]} to {protocol[1]}, this agent 1" in reason
    assert asked == {SERVER}
    assert content == spool.content(stream)


def test_server_that_is_upgraded_under_a_running_agent_costs_no_records(spool: Spool) -> None:
    first, second = spool.write(run="run0"), spool.write(run="run1")

    async def work() -> tuple[str, list[Any]]:
        agent = VirtualAgent(spool.root)
        lane = agent.lane()
        lane.roster.add(agent.stream(first, "run0"))
        await agent.until(lambda: agent.ended)
        refusal = recorded("newer_protocol")
        agent.server.fault = lambda path, body: refusal if path == INGEST else None
        lane.roster.add(agent.stream(second, "run1"))
        await agent.until(lambda: lane.state == "parked")
        reason = lane.reason
        agent.server.fault = lambda path, body: None
        await agent.until(lambda: len(agent.ended) == 2, step_s=1)
        await agent.close()
        stored = agent.server.fake.stored(second)
        assert stored is not None
        return reason, stored.gaps

    reason, gaps = run_virtually(work())

    assert "bad_protocol" in reason
    assert gaps == []
