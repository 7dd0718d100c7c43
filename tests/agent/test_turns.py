"""Who gets memory and requests: live before backfill, backfill never starved, first come first served."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.support.virtual_time import run_virtually
from tracker_agent.batcher import BACKFILL_SHARE
from tracker_agent.turns import Turn, Turns


def all_of_it(units: int) -> int:
    return units


def half(units: int) -> int:
    return units // 2


def test_live_work_comes_before_backfill_that_waited_longer() -> None:
    async def work() -> list[str]:
        turns = Turns(1, all_of_it)
        order: list[str] = []
        held = await turns.take(1, live=True)

        async def want(name: str, live: bool) -> None:
            with await turns.take(1, live):
                order.append(name)

        tasks = [asyncio.ensure_future(want("old", False)), asyncio.ensure_future(want("live", True))]
        await asyncio.sleep(1)
        held.release()
        await asyncio.gather(*tasks)
        return order

    assert run_virtually(work()) == ["live", "old"]


def test_backfill_gets_its_share_when_live_work_would_take_everything() -> None:
    async def work() -> dict[bool, int]:
        turns = Turns(1, all_of_it)
        done = {True: 0, False: 0}

        async def want(live: bool) -> None:
            while sum(done.values()) < 1000:
                with await turns.take(1, live):
                    done[live] += 1
                    await asyncio.sleep(0.01)

        await asyncio.gather(*(want(live) for live in (True, True, True, False)))
        return done

    done = run_virtually(work())

    assert abs(done[False] / 1000 - BACKFILL_SHARE) <= 0.06


def test_backfill_leaves_room_that_live_work_finds_free() -> None:
    async def work() -> bool:
        turns = Turns(8, half)
        await turns.take(4, live=False)
        waiting = asyncio.ensure_future(turns.take(1, live=False))
        async with asyncio.timeout(1):
            await turns.take(4, live=True)
        full = not waiting.done()
        waiting.cancel()
        return full

    assert run_virtually(work())


def test_large_wish_is_not_overtaken_for_ever_by_small_ones() -> None:
    async def work() -> list[str]:
        turns = Turns(10, all_of_it)
        order: list[str] = []
        held = [await turns.take(1, True) for _ in range(10)]

        async def want(name: str, amount: int) -> None:
            await turns.take(amount, True)
            order.append(name)

        large = asyncio.ensure_future(want("large", 9))
        await asyncio.sleep(0)
        small = asyncio.ensure_future(want("small", 1))
        for turn in held:
            turn.release()
            await asyncio.sleep(0)
        await asyncio.gather(large, small)
        return order

    assert run_virtually(work()) == ["large", "small"]


def test_wish_beyond_everything_is_cut_to_what_there_is() -> None:
    async def work() -> tuple[int, int]:
        turns = Turns(10, half)
        with await turns.take(1000, True) as live:
            first = live.amount
        with await turns.take(1000, False) as old:
            return first, old.amount

    assert run_virtually(work()) == (10, 5)


def test_who_is_cancelled_while_waiting_or_just_served_leaks_nothing() -> None:
    async def work() -> tuple[int, int]:
        turns = Turns(1, all_of_it)
        held = await turns.take(1, True)
        waiting = asyncio.ensure_future(turns.take(1, True))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.sleep(0)
        served = asyncio.ensure_future(turns.take(1, True))
        await asyncio.sleep(0)
        held.release()
        served.cancel()
        await asyncio.gather(waiting, served, return_exceptions=True)
        return turns.used, turns.waiting

    assert run_virtually(work()) == (0, 0)


def test_one_holder_at_a_time_may_hold_more_than_there_is() -> None:
    async def work() -> tuple[bool, bool, bool, int]:
        turns = Turns(10, all_of_it)
        first, second = await turns.take(5, True), await turns.take(5, True)
        large, too_large = first.resize(30), second.resize(30)
        first.release()
        later = second.resize(30)
        second.release()
        return large, too_large, later, turns.used

    assert run_virtually(work()) == (True, False, True, 0)


def test_turns_shrink_and_grow_while_they_are_held() -> None:
    async def work() -> list[Any]:
        turns = Turns(4, all_of_it)
        held: list[Turn] = [await turns.take(1, True) for _ in range(4)]
        turns.resize(1)
        waiting = asyncio.ensure_future(turns.take(1, True))
        for turn in held[:3]:
            turn.release()
        await asyncio.sleep(0)
        before = waiting.done()
        turns.resize(2)
        await asyncio.sleep(0)
        return [before, waiting.done(), turns.used]

    assert run_virtually(work()) == [False, True, 2]
