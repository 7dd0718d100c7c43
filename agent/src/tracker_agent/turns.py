"""Hands out a bounded number of units, live work before backfill, and backfill never starved by live work.

Used for requests at once (a unit each) and for memory (a unit is a byte). Order within either kind is first
come, first served, so that no lane waits longer than its turn.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Self

from .batcher import BACKFILL_SHARE


class Turn:
    """Some units, held until the `with` block ends or release() is called."""

    def __init__(self, turns: Turns, amount: int, live: bool) -> None:
        self.amount = amount
        self.live = live
        self._turns = turns
        self._held = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def release(self) -> None:
        """Give the units back. May be called twice."""
        if self._held:
            self._held = False
            self._turns.give_back(self)

    def resize(self, amount: int) -> bool:
        """Hold another number of units, at once. False: they are not there, and as many are held as before.

        What cannot be divided may be larger than what is left, or than all there is. One such holder
        at a time is let through, and whoever comes after it waits.
        """
        return self._turns.resize_turn(self, amount)

    def granted(self) -> None:
        """Note that the units are held now."""
        self._held = True


class Turns:
    """A number of units, shared out."""

    def __init__(self, units: int, backfill_units: Callable[[int], int]) -> None:
        self.units = units
        self.used = 0
        self._used_by_backfill = 0
        self._backfill_units = backfill_units  #: how many of so many units backfill may hold at once
        self._waiting: dict[bool, deque[tuple[Turn, asyncio.Future[None]]]] = {True: deque(), False: deque()}
        self._given = {True: 0, False: 0}  # while the other kind waited
        self._overdrawn: Turn | None = None
        self._watching: list[asyncio.Future[None]] = []  # who waits for the overdrawn one

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._waiting[True]) + len(self._waiting[False])

    def resize(self, units: int) -> None:
        """Change the number of units. Who holds some keeps them."""
        self.units = units
        self._grant()

    async def take(self, amount: int, live: bool) -> Turn:
        """Wait for some units. More than there are in all, or than this kind may hold, are cut to that."""
        turn = Turn(self, self._cut(amount, live), live)
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiter = (turn, future)
        self._waiting[live].append(waiter)
        self._grant()
        try:
            await future
        except asyncio.CancelledError:
            if waiter in self._waiting[live]:
                self._waiting[live].remove(waiter)
                self._grant()
            turn.release()
            raise
        return turn

    def give_back(self, turn: Turn) -> None:
        """Take back what a turn held."""
        self._account(turn, -turn.amount)
        if self._overdrawn is turn:
            self._overdrawn = None
            watching, self._watching = self._watching, []
            for future in watching:
                if not future.done():
                    future.set_result(None)
        self._grant()

    async def settled(self) -> None:
        """Wait until nobody holds more than there is."""
        if self._overdrawn is None:
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._watching.append(future)
        await future

    def resize_turn(self, turn: Turn, amount: int) -> bool:
        """See Turn.resize."""
        more = amount - turn.amount
        if more > 0 and self.used + more > self.units:
            if self._overdrawn not in (None, turn):
                return False
            self._overdrawn = turn
        self._account(turn, more)
        turn.amount = amount
        self._grant()
        return True

    def _cut(self, amount: int, live: bool) -> int:
        return max(1, min(amount, self.units if live else self._backfill_units(self.units)))

    def _account(self, turn: Turn, amount: int) -> None:
        self.used += amount
        if not turn.live:
            self._used_by_backfill += amount

    def _grant(self) -> None:
        while (waiter := self._next()) is not None:
            turn, future = waiter
            self._waiting[turn.live].popleft()
            if future.done():
                continue  # whoever waited was cancelled
            if self._waiting[not turn.live]:
                self._given[turn.live] += turn.amount
            self._account(turn, turn.amount)
            turn.granted()
            future.set_result(None)

    def _next(self) -> tuple[Turn, asyncio.Future[None]] | None:
        """Return whose turn it is, None when that one, or everyone, has to wait."""
        live, backfill = self._waiting[True], self._waiting[False]
        if backfill and self._backfill_fits(backfill[0][0]) and (not live or self._backfill_is_owed()):
            chosen = backfill[0]
        elif live:
            chosen = live[0]
        else:
            return None
        turn = chosen[0]
        turn.amount = self._cut(turn.amount, turn.live)  # there may be fewer than when it was asked for
        return chosen if self.used + turn.amount <= self.units else None

    def _backfill_fits(self, turn: Turn) -> bool:
        most = self._backfill_units(self.units)
        return self._used_by_backfill + min(turn.amount, most) <= most

    def _backfill_is_owed(self) -> bool:
        return self._given[False] < BACKFILL_SHARE * (self._given[True] + self._given[False])
