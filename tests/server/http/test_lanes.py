"""Lanes: bounded queues in front of threads."""

from __future__ import annotations

import asyncio
import threading

import pytest

from tracker_server.lanes import Lane, LaneFull


async def test_work_of_a_lane_with_one_thread_is_done_in_order() -> None:
    lane = Lane("test", 1, 100)
    done: list[int] = []

    await asyncio.gather(*(lane.run(done.append, number) for number in range(50)))

    assert done == list(range(50))
    lane.close()


async def test_a_full_lane_refuses_and_takes_work_again_when_there_is_room() -> None:
    lane = Lane("test", 1, 1)
    gate = threading.Event()
    running = asyncio.ensure_future(lane.run(gate.wait, 30))
    waiting = asyncio.ensure_future(lane.run(gate.wait, 30))
    await asyncio.sleep(0)

    with pytest.raises(LaneFull):
        await lane.run(int)
    gate.set()
    await asyncio.gather(running, waiting)
    while lane.in_lane:
        await asyncio.sleep(0)

    assert await lane.run(int) == 0
    lane.close()


async def test_work_that_began_is_finished_and_counted_when_its_caller_is_cancelled() -> None:
    lane = Lane("test", 1, 1)
    began, gate, done = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        began.set()
        gate.wait(30)
        done.set()

    caller = asyncio.ensure_future(lane.run(work))
    await asyncio.to_thread(began.wait, 30)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller

    assert lane.in_lane == 1
    gate.set()
    await asyncio.to_thread(done.wait, 30)
    lane.close()
    assert done.is_set()


async def test_an_error_reaches_the_caller_and_frees_the_place() -> None:
    lane = Lane("test", 1, 0)

    with pytest.raises(ZeroDivisionError):
        await lane.run(lambda: 1 // 0)
    while lane.in_lane:
        await asyncio.sleep(0)

    assert await lane.run(int) == 0
    lane.close()
