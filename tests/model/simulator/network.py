"""The network and what stands in it: what is sent gets lost, late, doubled, replayed; servers misbehave.

Everything that arrives anywhere is looked at here: no key may carry what is not its user's.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

from tracker_agent.exchange import Answer, TransportError

from .agent_loop import AgentLoop
from .faults import Faults, Fired
from .model_server import ModelServer, Reply, decode
from .world import SimulationError, World

TIMEOUT_S = 6.0
#: Answers of a server, or of something before it, that commits nothing.
STATUSES = (401, 403, 404, 400, 422, 413, 408, 429, 500, 502, 503, 307)
GARBLED = (
    b"<html>welcome to the hotel</html>",
    b"",
    b'{"epoch": "epoch-1", "streams": [{"uid"',
    b"[]",
    b'{"epoch": 7, "streams": []}',
    b'{"streams": []}',
    b'{"epoch": "epoch-1", "streams": [{"uid": 1000, "stream": "00", "next": -1}]}',
)


class Network:
    """Between one agent's host and one server."""

    def __init__(
        self,
        url: str,
        world: World,
        server: ModelServer,
        faults: Faults,
        fired: Fired,
        may_carry: Callable[[str, str, int, bytes], bool],
    ) -> None:
        self.url = url
        self.world = world
        self.server = server
        self.faults = faults
        self.fired = fired
        self.partitioned = False
        self.down_until = 0.0  #: the server restarts
        self.rejected: set[tuple[bytes, int]] = set()  #: (stream, offset) of single lines answered 4xx
        self.in_flight = 0  #: bytes of records
        self.most_in_flight = 0
        self._may_carry = may_carry

    def deliver(self, method: str, path: str, headers: dict[str, str], body: bytes | None) -> Reply | None:
        """Let the server answer. None: it is down."""
        if self.world.now < self.down_until:
            return None
        if path == "/api/v1/server":
            if "Authorization" in headers:
                raise SimulationError("a key was sent before it was known who listens")
        else:
            self._check_key(path, headers, body)
        refused = self._misbehave(path)
        if refused is not None:
            self._remember_rejected(path, refused[0], body)
            return refused
        reply = self.server.handle(method, path, headers, body)
        self._remember_rejected(path, reply[0], body)
        return self._distort(path, reply)

    def _check_key(self, path: str, headers: dict[str, str], body: bytes | None) -> None:
        key = headers["Authorization"].removeprefix("Bearer ")
        assert body is not None
        if path == "/api/v1/ingest":
            carried = [(owner["uid"], stream) for stream, _, _, owner in decode(body)]
        else:
            carried = [(item["uid"], bytes.fromhex(item["stream"])) for item in json.loads(body)["streams"]]
        for uid, stream in carried:
            if not self._may_carry(self.url, key, uid, stream):
                raise SimulationError(f"{key} carries stream {stream.hex()[:8]} of uid {uid} to {self.url}")

    def _misbehave(self, path: str) -> Reply | None:
        chance = self.world.random.random()
        for status in STATUSES:
            chance -= getattr(self.faults, f"status_{status}")
            if chance < 0:
                self.fired(f"status_{status}")
                headers = {}
                if status in (429, 503) and self.world.chance(0.7):
                    headers["retry-after"] = str(self.world.random.choice((0, 1, 3, 10)))
                if status == 307:
                    headers["location"] = "https://elsewhere/"
                return status, headers, b'{"error": "simulated", "reason": "a fault"}'
        return None

    def _distort(self, path: str, reply: Reply) -> Reply:
        status, headers, body = reply
        if status != 200 or path == "/api/v1/server":
            return reply
        if self.world.chance(self.faults.answer_garbled):
            self.fired("answer_garbled")
            return status, headers, self.world.random.choice(GARBLED)
        if path != "/api/v1/ingest":
            return reply
        fields = json.loads(body)
        chosen = [each for each in fields["streams"] if each.get("next") is not None]
        if not chosen:
            return reply
        one = self.world.random.choice(chosen)
        if self.world.chance(self.faults.answer_behind):
            self.fired("answer_behind")
            one["next"] = self.world.random.randint(0, one["next"])
        elif self.world.chance(self.faults.answer_beyond):
            self.fired("answer_beyond")
            one["next"] += self.world.random.randint(1, 5000)
        elif self.world.chance(self.faults.answer_incomplete):
            self.fired("answer_incomplete")
            fields["streams"].remove(one)
        else:
            return reply
        return status, headers, json.dumps(fields).encode()

    def _remember_rejected(self, path: str, status: int, body: bytes | None) -> None:
        """Take down which lines the agent may give up: those it asked about alone and got a no for."""
        if path == "/api/v1/ingest" and status in (400, 413, 422):
            assert body is not None
            entries = decode(body)
            if len(entries) == 1:
                self.rejected.add((entries[0][0], entries[0][1]))


class SimSender:
    """What the agent's transport is to a Network."""

    def __init__(self, network: Network, loop: AgentLoop) -> None:
        self.url = network.url
        self._network = network
        self._loop = loop
        network.in_flight = 0  # what another process had sent is no burden to this one

    async def close(self) -> None:
        """Nothing is open."""

    async def request(
        self, method: str, path: str, headers: dict[str, str], body: bytes | None = None
    ) -> Answer:
        """Send one request. Raise TransportError."""
        self._loop.step()
        network = self._network
        world, faults, fired = network.world, network.faults, network.fired
        world.note(f"send {method} {path} {len(body or b'')}")
        headers = dict(headers)
        future: asyncio.Future[Answer | None] = self._loop.create_future()
        there, back = world.random.uniform(0.001, 0.05), world.random.uniform(0.001, 0.05)
        if network.partitioned:
            silent = world.chance(0.5)
            self._loop.call_later(TIMEOUT_S if silent else 0.01, _settle, future, None)
        elif world.chance(faults.request_lost):
            fired("request_lost")
            self._loop.call_later(there, _settle, future, None)
        else:
            lost = world.chance(faults.answer_lost)
            late = not lost and world.chance(faults.answer_late)
            if lost:
                fired("answer_lost")
            if late:
                fired("answer_late")
                there += TIMEOUT_S * world.random.uniform(0.5, 2.0)
                self._loop.call_later(TIMEOUT_S, _settle, future, None)
            message = (method, path, headers, body)
            world.after(there, self._arrive, message, future, back, lost)
            if world.chance(faults.request_doubled):
                fired("request_doubled")
                world.after(there + world.random.uniform(0, 0.01), self._arrive_again, message)
            if world.chance(faults.request_replayed):
                fired("request_replayed")
                world.after(there + world.random.uniform(1, 30), self._arrive_again, message)
        size = _record_bytes(body) if path == "/api/v1/ingest" else 0
        network.in_flight += size
        network.most_in_flight = max(network.most_in_flight, network.in_flight)
        answer = await future
        network.in_flight -= size
        if answer is None:
            raise TransportError("simulated: no answer")
        return answer

    def _arrive(
        self, message: tuple[str, str, dict[str, str], bytes | None], future: Any, back: float, lost: bool
    ) -> None:
        reply = self._network.deliver(*message)
        world = self._network.world
        world.note(f"{message[1]} {None if reply is None else reply[0]} {'lost' if lost else ''}")
        answer = None if reply is None or lost else Answer(*reply)
        self._loop.call_later(back, _settle, future, answer)

    def _arrive_again(self, message: tuple[str, str, dict[str, str], bytes | None]) -> None:
        if not self._network.partitioned:
            reply = self._network.deliver(*message)
            self._network.world.note(f"again {message[1]} {None if reply is None else reply[0]}")


def _settle(future: asyncio.Future[Answer | None], answer: Answer | None) -> None:
    if not future.done():
        future.set_result(answer)


def _record_bytes(body: bytes | None) -> int:
    assert body is not None
    return sum(len(content) for _, _, content, _ in decode(body) if isinstance(content, bytes))
