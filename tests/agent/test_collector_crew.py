"""Which thread asks which collector."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from tests.agent.conftest import eventually
from tracker_agent.collector_crew import PATIENCE_S, CollectorCrew
from tracker_agent.collector_thread import Outcome
from tracker_agent.collectors.collector import Collector, Reading


class Played(Collector):
    """Does what a test says; remembers the threads it was asked in."""

    def __init__(
        self, name: str, play: Callable[[], object] = lambda: None, own_thread: bool = False
    ) -> None:
        super().__init__()
        self.name = name  # type: ignore[misc]
        self.own_thread = own_thread  # type: ignore[misc]
        self.play = play
        self.threads: list[int] = []
        self.closed = False

    def sample(self) -> Reading:
        self.threads.append(threading.get_ident())
        self.play()
        return Reading({self.name: 1.0})

    def close(self) -> None:
        self.closed = True


class Crew:
    """A crew and what was heard of it."""

    def __init__(self, *collectors: Played) -> None:
        self.heard: list[str] = []
        self.collectors = collectors
        self.crew = CollectorCrew(collectors, self._hear)

    def _hear(self, collector: Collector, outcome: Outcome) -> None:
        self.heard.append(collector.name)

    async def ask(self) -> None:
        await self.crew.ask([each for each in self.collectors if not self.crew.busy(each.name)])


@asynccontextmanager
async def crew_of(*collectors: Played) -> AsyncIterator[Crew]:
    made = Crew(*collectors)
    try:
        yield made
    finally:
        made.crew.close()


async def test_quick_collectors_share_a_thread_and_are_asked_in_turn() -> None:
    async with crew_of(Played("a"), Played("b"), Played("c")) as crew:
        for _ in range(3):
            await crew.ask()

        assert crew.heard == ["a", "b", "c"] * 3
        assert len({thread for each in crew.collectors for thread in each.threads}) == 1
        assert crew.crew.threads == 1


async def test_who_hangs_keeps_its_thread_and_the_others_go_on_in_another() -> None:
    release = threading.Event()
    a, hanging, c = Played("a"), Played("hanging", lambda: release.wait(60)), Played("c")
    try:
        async with crew_of(a, hanging, c) as crew:
            await crew.ask()
            assert crew.heard == ["a", "c"]
            assert crew.crew.busy("hanging")
            assert not crew.crew.busy("a")

            await crew.ask()
            assert crew.heard == ["a", "c", "a", "c"]
            release.set()
            await eventually(lambda: "hanging" in crew.heard)
            await crew.ask()
            await eventually(lambda: crew.heard.count("hanging") == 2)

            assert len(set(hanging.threads)) == 1
            assert a.threads[1:] == c.threads[1:]
            assert not set(a.threads[1:]) & set(hanging.threads)
            assert crew.crew.threads == 2
    finally:
        release.set()


async def test_nobody_waits_a_second_time_for_the_same_one() -> None:
    release = threading.Event()
    hanging = Played("hanging", lambda: release.wait(60))
    try:
        async with crew_of(hanging, Played("b")) as crew:
            await crew.ask()
            release.set()
            await eventually(lambda: not crew.crew.busy("hanging"))
            release.clear()
            crew.heard.clear()

            await asyncio.wait_for(crew.ask(), 60)

            assert crew.crew.busy("hanging")
            assert crew.heard == ["b"]
            assert crew.crew.threads == 2
    finally:
        release.set()


async def test_several_that_hang_get_a_thread_each() -> None:
    release = threading.Event()
    hanging = [Played(f"h{number}", lambda: release.wait(60)) for number in range(3)]
    try:
        async with crew_of(*hanging, Played("quick")) as crew:
            await crew.ask()

            assert crew.heard == ["quick"]
            assert all(crew.crew.busy(each.name) for each in hanging)
            assert crew.crew.threads == 4
            release.set()
            await crew.crew.wait(60)
            assert sorted(crew.heard) == ["h0", "h1", "h2", "quick"]
    finally:
        release.set()


async def test_collector_that_waits_by_nature_shares_no_thread_from_the_start() -> None:
    release = threading.Event()
    slow = Played("slow", lambda: release.wait(60), own_thread=True)
    try:
        async with crew_of(slow, Played("quick")) as crew:
            assert crew.crew.threads == 2

            await crew.ask()
            release.set()
            await crew.crew.wait(60)

            assert sorted(crew.heard) == ["quick", "slow"]
            assert crew.crew.threads == 2
    finally:
        release.set()


async def test_all_close_in_the_end_also_when_one_cannot() -> None:
    class Broken(Played):
        def close(self) -> None:
            raise OSError("no")

    a, c = Played("a"), Played("c", own_thread=True)
    async with crew_of(a, Broken("b"), c) as crew:
        await crew.ask()
        await crew.crew.wait(60)
    await eventually(crew.crew.ended)

    assert a.closed
    assert c.closed


async def test_long_rounds_of_quick_collectors_stay_in_one_thread() -> None:
    some = [Played(f"c{number}", lambda: threading.Event().wait(PATIENCE_S / 8)) for number in range(20)]
    async with crew_of(*some) as crew:
        await crew.ask()

        assert crew.heard == [each.name for each in some]
        assert crew.crew.threads == 1
