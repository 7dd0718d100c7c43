"""Fault: one thing that goes wrong, for a while. The modules *_faults.py register theirs with @fault."""

from __future__ import annotations

import os
import random
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.chaos.arena import Arena, Host

Act = Callable[["Scene"], None]


class NotNow(Exception):
    """There is nothing this fault could act upon at the moment; it does not count."""


@dataclass(frozen=True)
class Fault:
    """A kind of fault. `domain`: faults of one domain never overlap, those of different ones do."""

    name: str
    domain: str
    privileged: bool
    act: Act  #: does it, waits, and mends it


@dataclass
class Scene:
    """What a fault is given: the arena, its own random numbers, and the table of what fired."""

    arena: Arena
    numbers: random.Random
    over: threading.Event
    fired: Counter[str] = field(default_factory=Counter)
    _decks: dict[tuple[int, ...], list[int]] = field(default_factory=dict)

    def deal(self, kinds: tuple[int, ...]) -> int:
        """Return one of some kinds; every one comes once before any comes again."""
        deck = self._decks.setdefault(kinds, [])
        if not deck:
            deck += self.numbers.sample(kinds, len(kinds))
        return deck.pop()

    def host(self) -> Host:
        """Return one of the hosts, mostly the busier one."""
        return self.arena.hosts[0] if self.numbers.random() < 0.75 else self.numbers.choice(self.arena.hosts)

    def hold(self, least_s: float, most_s: float) -> None:
        """Leave the fault in force for a while."""
        self.over.wait(self.numbers.uniform(least_s, most_s))


FAULTS: list[Fault] = []


def fault(domain: str, privileged: bool = True) -> Callable[[Act], Act]:
    """Register a function as a kind of fault, under its own name."""

    def register(act: Act) -> Act:
        FAULTS.append(Fault(act.__name__, domain, privileged, act))
        return act

    return register


def available(privileged: bool = os.geteuid() == 0) -> list[Fault]:
    """Return the kinds that can be done here."""
    from tests.chaos import agent_faults, disk_faults, network_faults, server_faults, training_faults

    assert agent_faults and disk_faults and network_faults and server_faults and training_faults
    return [each for each in FAULTS if privileged or not each.privileged]
