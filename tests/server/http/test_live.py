"""The live hub: who hears what, how news is merged, and what a slow tab costs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from tracker_server.live import INTERVAL_S, PENDING_MAX, LiveHub, News, Subject, TooManySubscribers


class Clock:
    """A clock that moves when told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def news(run: str, data: bytes = b"1", entity: str = "e") -> News:
    return News(Subject(entity, "run", ("p", run)), data)


async def next_event(events: AsyncIterator[bytes]) -> bytes:
    async with asyncio.timeout(10):
        return await anext(events)


async def test_news_reaches_every_subscriber_of_its_entity_and_no_other() -> None:
    hub = LiveHub(10, 10, Clock())
    first, second = hub.subscribe("e", 1), hub.subscribe("e", 1)
    foreign = hub.subscribe("other", 2)

    hub.publish(news("r", b'{"cursor":1}'))

    for subscriber in (first, second):
        assert await next_event(hub.events(subscriber)) == b'event: run\ndata: {"cursor":1}\n\n'
    assert not foreign.pending


async def test_a_subscriber_to_one_run_hears_of_it_and_of_hosts() -> None:
    hub = LiveHub(10, 10, Clock())
    subscriber = hub.subscribe("e", 1, ("p", "mine"))

    hub.publish(news("other"))
    hub.publish(news("mine", b"2"))
    hub.publish(News(Subject("e", "host", ("m",)), b"3"))

    assert await next_event(hub.events(subscriber)) == b"event: run\ndata: 2\n\nevent: host\ndata: 3\n\n"


async def test_news_about_one_run_is_merged_to_the_newest_within_the_interval() -> None:
    clock = Clock()
    hub = LiveHub(10, 10, clock)
    subscriber = hub.subscribe("e", 1)
    hub.publish(news("r", b"1"))
    assert subscriber.take_due(clock.now)[0] == [news("r", b"1")]

    for number in range(50):
        hub.publish(news("r", b"%d" % number))
    held, wait = subscriber.take_due(clock.now)
    clock.now += INTERVAL_S
    due, rest = subscriber.take_due(clock.now)

    assert held == []
    assert wait == pytest.approx(INTERVAL_S)
    assert due == [news("r", b"49")]
    assert rest is None


async def test_held_news_leaves_when_its_interval_is_over() -> None:
    loop = asyncio.get_running_loop()
    hub = LiveHub(10, 10, loop.time)
    events = hub.events(hub.subscribe("e", 1))
    hub.publish(news("r", b"1"))
    assert b"data: 1" in await next_event(events)

    hub.publish(news("r", b"2"))

    assert b"data: 2" in await next_event(events)


async def test_a_slow_subscriber_is_told_to_start_over_and_holds_a_bounded_amount() -> None:
    hub = LiveHub(10, 10, Clock())
    subscriber = hub.subscribe("e", 1)

    for number in range(3 * PENDING_MAX):
        hub.publish(news(f"r{number}"))
        assert len(subscriber.pending) <= PENDING_MAX
    events = hub.events(subscriber)
    first = await next_event(events)
    hub.publish(news("after"))

    assert first == b"event: reset\ndata: {}\n\n"
    assert await next_event(events) == b"event: run\ndata: 1\n\n"


async def test_a_ping_is_sent_when_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tracker_server.live.PING_S", 0.01)
    hub = LiveHub(10, 10, Clock())

    assert await next_event(hub.events(hub.subscribe("e", 1))) == b": ping\n\n"


async def test_closing_the_hub_ends_every_stream() -> None:
    hub = LiveHub(10, 10, Clock())
    events = hub.events(hub.subscribe("e", 1))
    waiting = asyncio.ensure_future(anext(events))
    await asyncio.sleep(0)

    hub.close()

    with pytest.raises(StopAsyncIteration):
        await asyncio.wait_for(waiting, 10)


def test_open_streams_are_limited_in_all_and_by_principal() -> None:
    hub = LiveHub(3, 2, Clock())
    mine = [hub.subscribe("e", 1), hub.subscribe("e", 1)]

    with pytest.raises(TooManySubscribers):
        hub.subscribe("e", 1)
    hub.subscribe("e", 2)
    with pytest.raises(TooManySubscribers):
        hub.subscribe("e", 3)
    hub.unsubscribe(mine[0])
    hub.unsubscribe(mine[0])

    assert hub.subscribe("e", 3) is not None
