"""What a server asks of this host: to stop a run. One long poll per server and key, while it can matter.

A server may only stop what ships to it with that very key, and of that only what looks for requests. Nothing
is kept here: a request stays with the server until this agent says what became of it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from structlog.typing import FilteringBoundLogger

from .clock import Clock
from .counters import Counters
from .disk import Disk
from .endpoint import Endpoint
from .exchange import Answer, TransportError
from .lane import Lane
from .opening import Refused
from .retry import Backoff, parse_retry_after
from .spool_thread import SPOOL_WAIT_S
from .stop_file import write_stop
from .streams import Stream

#: How often it is looked whether somebody can be stopped at all.
LOOK_S = 2.0
#: How long a server may keep a poll open: less than any proxy's patience.
WAIT_S = 25.0
#: After a poll that brought something, for a server that answers at once each time.
PAUSE_S = 0.2
CAPABILITY = "requests"
#: What of an answer is looked at.
REQUESTS_MAX = 200
TEXT_CHARACTERS_MAX = 128
REASON_CHARACTERS_MAX = 500


@dataclass(frozen=True, slots=True)
class StopRequest:
    """A request, as far as it is understood."""

    id: int
    run: str
    by: str
    asked: int
    streams: frozenset[tuple[int, bytes]]


def parse_requests(body: bytes) -> list[StopRequest]:
    """Return the requests to stop in an answer, without those of unknown kinds. Raise ValueError."""
    fields = json.loads(body)
    if not isinstance(fields, dict) or not isinstance(fields.get("requests"), list):
        raise ValueError("not a list of requests")  # noqa: TRY004 - one kind of error for all
    found = []
    for each in fields["requests"][:REQUESTS_MAX]:
        if not isinstance(each, dict) or each.get("kind") != "stop":
            continue
        try:
            streams = frozenset((int(s["uid"]), bytes.fromhex(s["stream"])) for s in each["streams"])
            by = str(each["by"])[:TEXT_CHARACTERS_MAX]
            found.append(StopRequest(int(each["id"]), str(each["run"]), by, int(each["asked"]), streams))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError("a request that is not one") from error
    return found


def concerned(request: StopRequest, streams: Iterable[Stream]) -> list[Stream]:
    """Return those of a lane's streams that a request is for and that can be stopped."""
    return [stream for stream in streams if (stream.uid, stream.id) in request.streams and _stoppable(stream)
            and stream.header.run == request.run]  # fmt: skip


def _stoppable(stream: Stream) -> bool:
    return stream.live and bool(stream.header.stop) and not stream.own


class Requests:
    """Polls the servers of all lanes that have a stream which can be stopped.

    lanes() lists the lanes; endpoints the servers by URL.
    """

    def __init__(
        self,
        lanes: Callable[[], Iterable[Lane]],
        endpoints: Mapping[str, Endpoint],
        machine: str,
        disk: Disk,
        clock: Clock,
        counters: Counters,
        log: FilteringBoundLogger,
    ) -> None:
        self._lanes = lanes
        self._endpoints = endpoints
        self._machine = machine
        self._disk = disk
        self._clock = clock
        self._counters = counters
        self._log = log
        self._polls: dict[Lane, asyncio.Task[None]] = {}
        self._states: dict[Lane, str] = {}
        self._stopped = 0
        self._failed = 0

    async def run(self) -> None:
        """Poll until cancelled."""
        try:
            while True:
                self._look()
                await asyncio.sleep(LOOK_S)
        finally:
            polls = list(self._polls.values())
            for poll in polls:
                poll.cancel()
            await asyncio.gather(*polls, return_exceptions=True)
            self._polls.clear()

    def status(self) -> dict[str, Any]:
        """Return plain JSON values: what status shows under "requests"."""
        polls = [
            {
                "server": lane.credential.server,
                "credential": lane.credential.name,
                "state": self._states[lane],
            }
            for lane in self._polls
            if lane in self._states
        ]
        return {"polls": polls, "stopped": self._stopped, "failed": self._failed}

    def _look(self) -> None:
        """Let polls begin and end as runs that can be stopped come and go."""
        wanted = {
            lane for lane in self._lanes() if any(_stoppable(each) for each in lane.roster.streams.values())
        }
        for lane in [lane for lane, poll in self._polls.items() if lane not in wanted or poll.done()]:
            poll = self._polls.pop(lane)
            self._states.pop(lane, None)
            if poll.done() and not poll.cancelled() and poll.exception() is not None:
                self._counters.failures["requests"] += 1
                self._log.error("waiting for requests failed", exc_info=poll.exception())
            poll.cancel()
        for lane in wanted - set(self._polls):
            self._states[lane] = "waiting"
            self._polls[lane] = asyncio.create_task(self._poll(lane, self._endpoints[lane.credential.server]))

    async def _poll(self, lane: Lane, endpoint: Endpoint) -> None:
        settings = endpoint.settings
        backoff = Backoff(settings.retry_first_s, settings.retry_max_s, endpoint.uniform)
        while True:
            if not endpoint.admits or endpoint.server is None:
                # What ships finds out when the server is back; nobody asks a sick one for more work.
                await asyncio.sleep(LOOK_S)
                continue
            if CAPABILITY not in endpoint.capabilities:
                self._states[lane] = "not offered by this server"
                await asyncio.sleep(settings.probe_interval_s)
                continue
            pause_s = await self._ask_once(lane, endpoint, backoff)
            await asyncio.sleep(pause_s)

    async def _ask_once(self, lane: Lane, endpoint: Endpoint, backoff: Backoff) -> float:
        """Wait for requests and act on them; return how long to pause before the next poll."""
        try:
            answer = await self._send(lane, endpoint, "GET", f"?wait_s={WAIT_S:g}")
        except TransportError as error:
            self._states[lane] = f"retrying: {error}"
            return backoff.failure(None)
        if answer.status in (401, 403, 404, 405):
            self._states[lane] = f"refused: status {answer.status}"
            return endpoint.settings.probe_interval_s
        try:
            requests = parse_requests(answer.body) if answer.status == 200 else None
        except (ValueError, RecursionError):
            requests = None
        if requests is None:
            self._states[lane] = f"retrying: status {answer.status}"
            wall_s = self._clock.wall_ns() / 1e9
            return backoff.failure(parse_retry_after(answer.headers.get("retry-after"), wall_s))
        backoff.success()
        self._states[lane] = "waiting"
        for request in requests:
            result, reason = await self._stop(lane, request)
            body = json.dumps({"result": result, "reason": reason}).encode()
            try:
                await self._send(lane, endpoint, "POST", f"/{request.id}", body)
            except TransportError as error:
                self._states[lane] = f"retrying: {error}"
                return backoff.failure(None)
        return PAUSE_S

    async def _send(
        self, lane: Lane, endpoint: Endpoint, method: str, tail: str, body: bytes | None = None
    ) -> Answer:
        headers = {"Authorization": f"Bearer {lane.credential.key}"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        path = f"/api/v1/hosts/{quote(self._machine, safe='')}/requests{tail}"
        return await endpoint.request(method, path, headers, body)

    async def _stop(self, lane: Lane, request: StopRequest) -> tuple[str, str]:
        """Write the request to where its writers look; return (result, reason) for the server."""
        places = {stream.entry.place: stream for stream in concerned(request, lane.roster.streams.values())}
        if not places:
            return self._fail(request, "no live process of this run looks for requests on this host")
        for place, stream in places.items():
            try:
                async with asyncio.timeout(SPOOL_WAIT_S):
                    await stream.thread.call(
                        write_stop, self._disk, place, request.id, request.by, request.asked
                    )
            except TimeoutError:
                return self._fail(request, f"the disk of {place.root} does not answer")
            except (OSError, Refused) as error:
                text = error.strerror if isinstance(error, OSError) else str(error)
                return self._fail(request, f"cannot write the request into the run directory: {text}")
        self._stopped += 1
        self._log.info("run asked to stop", run=request.run, by=request.by, request=request.id)
        return "written", ""

    def _fail(self, request: StopRequest, reason: str) -> tuple[str, str]:
        self._failed += 1
        self._log.warning("run cannot be asked to stop", run=request.run, by=request.by, reason=reason)
        return "failed", reason[:REASON_CHARACTERS_MAX]
