"""The control socket with arguments and with answers that go on: tap, top and what else streams."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import socket
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.agent.conftest import eventually
from tracker_agent import control
from tracker_agent.control import STREAMS_MAX, Arguments, ControlError, ControlServer, ask, follow


class Agent:
    """A control server with a command of each sort, and what became of its streams."""

    def __init__(self, state_dir: Path) -> None:
        self.state_dir = state_dir
        self.open = 0
        self.server = ControlServer(state_dir)
        self.server.answer("add", self.add)
        self.server.stream("count", self.count)
        self.server.stream("flood", self.flood)

    async def add(self, arguments: Arguments) -> dict[str, Any]:
        if "a" not in arguments:
            raise ControlError("a is missing: say what to add")
        return {"sum": arguments["a"] + arguments["b"]}

    async def count(self, arguments: Arguments) -> AsyncGenerator[dict[str, Any]]:
        self.open += 1
        try:
            for number in itertools.count() if "to" not in arguments else range(arguments["to"]):
                yield {"number": number}
                await asyncio.sleep(0)
                if number >= 5 and "to" not in arguments:
                    await asyncio.Event().wait()
        finally:
            self.open -= 1

    async def flood(self, _: Arguments) -> AsyncGenerator[dict[str, Any]]:
        self.open += 1
        try:
            while True:
                yield {"data": "x" * 65536}
        finally:
            self.open -= 1


@asynccontextmanager
async def agent_in(state_dir: Path) -> AsyncIterator[Agent]:
    agent = Agent(state_dir)
    await agent.server.start()
    try:
        yield agent
    finally:
        await agent.server.close()


async def connect(agent: Agent, command: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    directory = os.open(agent.state_dir, os.O_PATH)
    try:
        reader, writer = await asyncio.open_unix_connection(f"/proc/self/fd/{directory}/agent.sock")
    finally:
        os.close(directory)
    writer.write(json.dumps({"command": command}).encode() + b"\n")
    return reader, writer


async def test_command_takes_arguments_and_refuses_with_its_own_words(tmp_path: Path) -> None:
    async with agent_in(tmp_path):
        answer = await asyncio.to_thread(ask, tmp_path, "add", {"a": 2, "b": 3})
        with pytest.raises(ControlError, match="a is missing: say what to add"):
            await asyncio.to_thread(ask, tmp_path, "add")

    assert answer == {"sum": 5}


async def test_stream_of_answers_ends_when_there_are_no_more(tmp_path: Path) -> None:
    async with agent_in(tmp_path) as agent:
        answers = await asyncio.to_thread(lambda: list(follow(tmp_path, "count", {"to": 1000})))

        assert [each["number"] for each in answers] == list(range(1000))
        await eventually(lambda: agent.open == 0)


async def test_caller_who_goes_away_ends_his_stream(tmp_path: Path) -> None:
    async with agent_in(tmp_path) as agent:
        reader, writer = await connect(agent, "count")
        await reader.readline()
        assert agent.open == 1

        writer.close()

        await eventually(lambda: agent.open == 0)


async def test_agent_that_stops_says_so_to_whoever_listens(tmp_path: Path) -> None:
    async with agent_in(tmp_path) as agent:
        listening = asyncio.create_task(asyncio.to_thread(lambda: list(follow(tmp_path, "count"))))
        await eventually(lambda: agent.open == 1)

    with pytest.raises(ControlError, match="stopped in the middle"):
        await listening


async def test_caller_who_takes_nothing_is_let_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "STALLED_S", 0.05)
    async with agent_in(tmp_path) as agent:
        directory = os.open(tmp_path, os.O_PATH)
        with socket.socket(socket.AF_UNIX) as stopped:
            stopped.connect(f"/proc/self/fd/{directory}/agent.sock")
            stopped.sendall(b'{"command": "flood"}\n')
            await eventually(lambda: agent.open == 1)

            await eventually(lambda: agent.open == 0, what="the stalled stream to be closed")
        os.close(directory)


async def test_listeners_are_limited_and_leave_room_for_status(tmp_path: Path) -> None:
    async with agent_in(tmp_path) as agent:
        listening = [await connect(agent, "count") for _ in range(STREAMS_MAX)]
        await eventually(lambda: agent.open == STREAMS_MAX)

        with pytest.raises(ControlError, match="are listening already"):
            await asyncio.to_thread(lambda: list(follow(tmp_path, "count")))
        assert await asyncio.to_thread(ask, tmp_path, "add", {"a": 1, "b": 1}) == {"sum": 2}

        for _, writer in listening:
            writer.close()
        await eventually(lambda: agent.open == 0)
        assert await asyncio.to_thread(lambda: len(list(follow(tmp_path, "count", {"to": 3})))) == 3


@pytest.mark.parametrize("said", [{"command": 5}, {"command": "add", "arguments": [1]}, {"arguments": {}}])
async def test_request_of_another_form_is_told_what_one_looks_like(tmp_path: Path, said: Any) -> None:
    async with agent_in(tmp_path) as agent:
        reader, writer = await connect(agent, "nothing")
        await reader.readline()
        with contextlib.suppress(OSError):
            writer.close()
        directory = os.open(tmp_path, os.O_PATH)
        reader, writer = await asyncio.open_unix_connection(f"/proc/self/fd/{directory}/agent.sock")
        os.close(directory)
        writer.write(json.dumps(said).encode() + b"\n")

        answer = json.loads(await reader.readline())
        writer.close()

    assert "a request looks like" in answer["error"]
