"""One server as the whole agent sees it: probe, breaker, Retry-After, splay and slow start."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import structlog

from tests.support.virtual_lane import at_once
from tests.support.virtual_server import SERVER, VirtualServer
from tests.support.virtual_time import VirtualClock, run_virtually
from tracker_agent.allowance import Allowance, TokenBucket
from tracker_agent.breaker import FAILURES_TO_OPEN, Concurrency, splay_s
from tracker_agent.endpoint import RETRY_AFTER_JITTER, Endpoint, EndpointSettings
from tracker_agent.exchange import Answer, TransportError


def highest(low: float, high: float) -> float:
    return high


def make(server: VirtualServer, uniform: Callable[[float, float], float] = highest) -> Endpoint:
    clock = VirtualClock()
    return Endpoint(
        server, EndpointSettings(), Allowance(clock), clock, structlog.get_logger(), uniform, at_once, "9.9"
    )


def break_it(endpoint: Endpoint) -> None:
    for _ in range(FAILURES_TO_OPEN):
        endpoint.failed("no way", None, congested=False)


def test_nothing_is_admitted_before_a_server_answered_the_probe() -> None:
    async def work() -> tuple[bool, bool, int]:
        server = VirtualServer()
        endpoint = make(server)
        before = endpoint.admits
        await asyncio.gather(*(endpoint.ready() for _ in range(50)))
        return before, endpoint.admits, len(server.times(SERVER))

    assert run_virtually(work()) == (False, True, 1), "one probe for all who wait"


def test_breaker_opens_after_failures_in_a_row_and_not_before() -> None:
    async def work() -> list[bool]:
        endpoint = make(VirtualServer())
        await endpoint.ready()
        seen = []
        for _ in range(FAILURES_TO_OPEN - 1):
            endpoint.failed("no", None, congested=False)
        seen.append(endpoint.admits)
        endpoint.answered(took_records=True)
        for _ in range(FAILURES_TO_OPEN - 1):
            endpoint.failed("no", None, congested=False)
        seen.append(endpoint.admits)
        endpoint.failed("no", None, congested=False)
        seen.append(endpoint.admits)
        return seen

    assert run_virtually(work()) == [True, True, False]


def test_refused_key_shows_that_the_server_is_well() -> None:
    async def work() -> bool:
        endpoint = make(VirtualServer())
        await endpoint.ready()
        for _ in range(10):
            endpoint.failed("no", None, congested=False)
            endpoint.answered(took_records=False)
        return endpoint.admits

    assert run_virtually(work())


def test_while_a_server_is_away_there_is_one_probe_at_a_time_and_never_a_long_wait() -> None:
    async def work() -> tuple[list[float], int]:
        server = VirtualServer()
        endpoint = make(server)
        await endpoint.ready()
        server.requests.clear()
        back_at = asyncio.get_running_loop().time() + 3 * 86_400
        server.fault = lambda path, body: (
            TransportError("refused") if asyncio.get_running_loop().time() < back_at else None
        )
        break_it(endpoint)
        await asyncio.gather(*(endpoint.ready() for _ in range(200)))
        times = server.times(SERVER)
        return [b - a for a, b in pairwise(times)], server.under_way_max

    pauses, most = run_virtually(work())

    assert most == 1
    assert [round(pause) for pause in pauses[:8]] == [2, 4, 8, 16, 32, 64, 128, 256]
    assert {round(pause) for pause in pauses[8:]} == {300}, "for ever, and no longer than five minutes"


def test_waiting_lane_that_probed_may_be_cancelled_and_another_goes_on() -> None:
    async def work() -> bool:
        server = VirtualServer()
        server.fault = lambda path, body: TransportError("refused")
        endpoint = make(server)
        waiting = [asyncio.ensure_future(endpoint.ready()) for _ in range(3)]
        await asyncio.sleep(10)
        waiting[0].cancel()
        server.fault = lambda path, body: None
        await asyncio.gather(*waiting[1:])
        return endpoint.admits

    assert run_virtually(work())


def test_after_a_long_outage_agents_come_back_spread_over_a_minute_and_old_data_after_new() -> None:
    async def work() -> tuple[float, float]:
        server = VirtualServer(latency_s=0.0)
        endpoint = make(server)
        await endpoint.ready()
        server.fault = lambda path, body: TransportError("refused")
        break_it(endpoint)
        ready = asyncio.ensure_future(endpoint.ready())
        await asyncio.sleep(1000)
        server.fault = lambda path, body: None
        await ready
        return asyncio.get_running_loop().time() - server.times(SERVER)[-1], endpoint.backfill_at

    waited, backfill_at = run_virtually(work())

    assert waited == 60.0
    assert backfill_at > 0


def test_splay_is_as_long_as_the_outage_and_at_most_a_minute() -> None:
    assert [splay_s(outage) for outage in (0.0, 1.9, 5.0, 59.0, 61.0, 1e6)] == [0, 0, 5, 59, 60, 60]
    assert splay_s(1e6, most_s=3.0) == 3.0


def test_retry_after_stops_everybody_and_they_come_back_later_than_asked() -> None:
    async def work() -> tuple[bool, float]:
        endpoint = make(VirtualServer())
        await endpoint.ready()
        began = asyncio.get_running_loop().time()
        endpoint.failed("503: busy", 40.0, congested=True)
        admitted = endpoint.admits
        await endpoint.ready()
        return admitted, asyncio.get_running_loop().time() - began

    admitted, waited = run_virtually(work())

    assert not admitted
    assert waited == 40.0 * (1 + RETRY_AFTER_JITTER)


def test_requests_at_once_grow_by_one_a_round_and_halve_when_it_is_too_much() -> None:
    concurrency = Concurrency(4)
    seen = []
    for _ in range(6):
        concurrency.succeeded()
        seen.append(concurrency.limit)
    concurrency.congested()
    seen.append(concurrency.limit)
    concurrency.restart()
    seen.append(concurrency.limit)

    assert seen == [2, 2, 3, 3, 3, 4, 2, 1]


def test_place_that_is_no_tracker_server_is_parked_and_looked_at_every_five_minutes() -> None:
    async def work() -> tuple[str, str, list[float]]:
        server = VirtualServer(latency_s=0.0)
        server.fault = lambda path, body: Answer(200, {}, b"<html>sign in to the hotel</html>")
        endpoint = make(server)
        ready = asyncio.ensure_future(endpoint.ready())
        await asyncio.sleep(901)
        ready.cancel()
        times = server.times(SERVER)
        return endpoint.state, endpoint.reason, [b - a for a, b in pairwise(times)]

    state, reason, pauses = run_virtually(work())

    assert (state, pauses) == ("parked", [300.0, 300.0, 300.0])
    assert "not a Tracker server" in reason


def test_portal_in_place_of_a_server_that_was_there_is_an_outage_like_any_other() -> None:
    async def work() -> tuple[str, float]:
        server = VirtualServer(latency_s=0.0)
        endpoint = make(server)
        await endpoint.ready()
        server.fault = lambda path, body: Answer(200, {}, b"<html>sign in</html>")
        break_it(endpoint)
        ready = asyncio.ensure_future(endpoint.ready())
        await asyncio.sleep(10)
        state = endpoint.state
        server.fault = lambda path, body: None
        began = asyncio.get_running_loop().time()
        await ready
        return state, asyncio.get_running_loop().time() - began

    state, waited = run_virtually(work())

    assert state == "retrying"
    assert waited < 40


def test_backfill_holds_its_rate_on_average_whatever_the_size_of_what_is_sent() -> None:
    bucket = TokenBucket(1000.0, now=0.0)
    now, sent = 0.0, 0
    while now < 1000:
        delay = bucket.delay_s(now)
        if delay:
            now += delay
            continue
        bucket.spend(7000, now)
        sent += 7000

    assert abs(sent / now - 1000.0) < 20
    assert TokenBucket(0.0, now=0.0).delay_s(5.0) == 0.0


def answer_of(protocol: list[int], **more: Any) -> Answer:
    fields = {"server": "tracker", "version": "7", "protocol": protocol, "epoch": "e", **more}
    return Answer(200, {}, json.dumps(fields).encode())


def test_capabilities_are_those_that_the_server_names() -> None:
    async def work() -> list[Any]:
        seen: list[Any] = []
        for extra in (
            {},
            {"capabilities": ["zstd", "later", 7]},
            {"capabilities": ["zstd"], "colour": "red"},
        ):
            server = VirtualServer()
            server.fault = lambda path, body, extra=extra: answer_of([1, 2], **extra)  # type: ignore[misc]
            endpoint = make(server)
            await endpoint.ready()
            seen.append(endpoint.capabilities)
        return seen

    assert run_virtually(work()) == [set(), {"zstd", "later"}, {"zstd"}]


def test_after_an_outage_requests_begin_one_by_one() -> None:
    async def work() -> tuple[int, int]:
        endpoint = make(VirtualServer())
        await endpoint.ready()
        for _ in range(20):
            endpoint.answered(took_records=True)
        before = endpoint.requests_at_once
        break_it(endpoint)
        await endpoint.ready()
        return before, endpoint.requests_at_once

    assert run_virtually(work()) == (EndpointSettings().requests_max, 1)


def test_server_that_talks_and_takes_no_records_is_asked_less_and_less_often() -> None:
    async def work() -> list[float]:
        server = VirtualServer(latency_s=0.0)
        endpoint = make(server)
        await endpoint.ready()
        waits = []
        for _ in range(12):
            endpoint.answered(took_records=False)
            break_it(endpoint)
            began = asyncio.get_running_loop().time()
            await endpoint.ready()
            waits.append(asyncio.get_running_loop().time() - began)
        return waits

    waits = run_virtually(work())

    assert waits[0] < 5
    assert waits[-1] >= 300
