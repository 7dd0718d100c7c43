"""Asking a run to stop, from a person to the agent of its host.

The request is stored before anything else, so a restart of the server or an agent that is away loses none.
Agents hold a long poll open while a run of theirs can be stopped; `Waiters` wakes the right ones.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Annotated, Literal

from msgspec import Meta, Struct

from tracker_server.lanes import Lane
from tracker_server.principal import READ, Principal
from tracker_server.store.stops import HostRequest, NotStoppable
from tracker_server.store.store import Store

from . import answers
from .errors import ApiError, busy, not_found
from .routes import Access, Call, NoQuery, Route
from .runs_api import RUN_PATH, get_run, may_stop, stop_state

REQUESTS_PATH = "/api/v1/hosts/{machine}/requests"
#: Agents that may wait at once, in all and with keys of one principal.
WAITERS_MAX = 20_000
WAITERS_PER_PRINCIPAL = 5_000
WAIT_MAX_S = 60.0


class Waiters:
    """Wakes the polls of the machines that a request concerns. For the event loop only."""

    def __init__(
        self, waiters_max: int = WAITERS_MAX, per_principal_max: int = WAITERS_PER_PRINCIPAL
    ) -> None:
        self._waiters_max = waiters_max
        self._per_principal_max = per_principal_max
        self._events: dict[tuple[int, str], set[asyncio.Event]] = {}
        self._by_principal: dict[int, int] = {}
        self._closed = False

    def __len__(self) -> int:
        return sum(self._by_principal.values())

    @contextmanager
    def wait_for(self, principal: Principal, machine: str) -> Iterator[asyncio.Event]:
        """Lend an event that is set when there is something for the machine. Raise ApiError at a limit."""
        held = self._by_principal.get(principal.id, 0)
        if len(self) >= self._waiters_max or held >= self._per_principal_max:
            raise busy(30.0)
        event = asyncio.Event()
        if self._closed:
            event.set()
        key = (principal.entity_id, machine)
        events = self._events.setdefault(key, set())
        events.add(event)
        self._by_principal[principal.id] = held + 1
        try:
            yield event
        finally:
            events.discard(event)
            if not events:
                self._events.pop(key, None)
            left = self._by_principal[principal.id] - 1
            if left:
                self._by_principal[principal.id] = left
            else:
                del self._by_principal[principal.id]

    def wake(self, entity_id: int, machines: Iterable[str]) -> None:
        """Let the polls of some machines look again."""
        for machine in machines:
            for event in self._events.get((entity_id, machine), ()):
                event.set()

    def close(self) -> None:
        """Let every poll answer now: the server stops."""
        self._closed = True
        for events in self._events.values():
            for event in events:
                event.set()


class RequestsQuery(Struct, forbid_unknown_fields=True):
    """How long to wait for something to do."""

    wait_s: Annotated[float, Meta(ge=0, le=WAIT_MAX_S)] = 25.0


class DeliveryBody(Struct, forbid_unknown_fields=True):
    """What the agent did: the file is there, or why it is not."""

    result: Literal["written", "failed"]
    reason: Annotated[str, Meta(max_length=500)] = ""


class RequestStream(Struct):
    """A stream of the agent's host that a request is for."""

    uid: int
    stream: str


class HostRequestAnswer(Struct):
    """One request. kind is "stop"; agents pass over kinds they do not know."""

    id: int
    kind: str
    project: str
    run: str
    by: str
    asked: int
    streams: list[RequestStream]


class RequestsAnswer(Struct):
    """What there is to do; nothing, when the time to wait is over."""

    requests: list[HostRequestAnswer]


class StopApi:
    """POST …/stop for people, /hosts/{machine}/requests for agents."""

    def __init__(
        self,
        store: Store,
        reader: Lane,
        writer: Lane,
        waiters: Waiters,
        now: Callable[[], int] = time.time_ns,
    ) -> None:
        self._store = store
        self._reader = reader
        self._writer = writer
        self._waiters = waiters
        self._now = now

    def routes(self) -> list[Route]:
        """Return what this serves."""
        return [
            Route(
                "POST",
                RUN_PATH + "/stop",
                Access.SIGNED_IN,
                self.stop,
                "Ask a run to stop",
                answers.StopState,
                status=202,
            ),
            Route(
                "GET",
                REQUESTS_PATH,
                Access.INGEST,
                self.requests,
                "Wait for requests about streams of a host that came with this principal's keys",
                RequestsAnswer,
                query=RequestsQuery,
            ),
            Route(
                "POST",
                REQUESTS_PATH + "/{id}",
                Access.INGEST,
                self.delivered,
                "Say what an agent did about a request",
                answers.Done,
                body=DeliveryBody,
            ),
        ]

    async def stop(self, call: Call[NoQuery, None]) -> answers.StopState:
        """Ask a run to stop. Whoever may write the run may; asking twice is asking once."""
        run = await self._reader.run(get_run, self._store, call)
        if not await self._reader.run(may_stop, self._store, call.principal, run):
            # Who may not read does not learn that the run exists.
            raise (
                ApiError(403, "forbidden", "only who may write into a run may stop it")
                if call.principal.may(READ)
                else not_found("run")
            )
        try:
            request, machines = await self._writer.run(
                self._store.stops.ask, run.id, call.principal, self._now()
            )
        except NotStoppable as error:
            raise ApiError(409, error.code, str(error)) from error
        self._waiters.wake(call.principal.entity_id, machines)
        return stop_state(request)

    async def requests(self, call: Call[RequestsQuery, None]) -> RequestsAnswer:
        """Answer as soon as there is something to do, or when the time is over."""
        principal, machine = call.principal, call.path("machine")
        with self._waiters.wait_for(principal, machine) as event:
            # Looked up after the event is in place: what comes in between is not missed.
            found = await self._pending(principal, machine)
            if not found and call.query.wait_s > 0:
                try:
                    async with asyncio.timeout(call.query.wait_s):
                        await event.wait()
                except TimeoutError:
                    return RequestsAnswer([])
                found = await self._pending(principal, machine)
        return RequestsAnswer([_host_request(each) for each in found])

    async def _pending(self, principal: Principal, machine: str) -> list[HostRequest]:
        return await self._reader.run(self._store.stops.pending, principal, machine)

    async def delivered(self, call: Call[NoQuery, DeliveryBody]) -> answers.Done:
        """Note what an agent did."""
        number = call.path("id")
        if not (number.isascii() and number.isdecimal() and len(number) < 19):
            raise not_found("request")
        await self._writer.run(
            self._store.stops.delivered,
            call.principal,
            call.path("machine"),
            int(number),
            call.body.result,
            call.body.reason,
            self._now(),
        )
        return answers.Done()


def _host_request(request: HostRequest) -> HostRequestAnswer:
    return HostRequestAnswer(
        request.id,
        "stop",
        request.project,
        request.run,
        request.by,
        request.asked,
        [RequestStream(uid, stream.hex()) for uid, stream in request.streams],
    )
