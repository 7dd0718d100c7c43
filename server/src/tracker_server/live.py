"""LiveHub: tells open browser tabs what has changed, a few bytes each; the data is fetched by cursor.

News about one run replaces older news about it, so that a slow tab costs no memory: each
subscriber holds at most PENDING_MAX subjects and, beyond that, a single `reset` ("fetch
everything you show again"). Everything here runs on the event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import NamedTuple

#: News about one subject leaves at most every so often; the first leaves at once.
INTERVAL_S = 0.1
#: A comment is sent when nothing else was, so that dead connections show and proxies stay open.
PING_S = 15.0
#: Subjects one subscriber may have waiting.
PENDING_MAX = 1000


class Subject(NamedTuple):
    """What news is about: a run or a host of one entity."""

    entity: str
    kind: str  #: "run", "host" or "host_event"
    id: tuple[str, ...]  #: (project, run) or (machine,)


@dataclass(frozen=True)
class News:
    """One thing that changed. data is the JSON to send."""

    subject: Subject
    data: bytes


class TooManySubscribers(Exception):
    """A limit on open event streams is reached."""


@dataclass(eq=False)
class Subscriber:
    """One open event stream. only: the one run it follows, or None for all of its entity."""

    entity: str
    owner: int
    only: tuple[str, ...] | None = None
    pending: dict[Subject, News] = field(default_factory=dict)
    sent: dict[Subject, float] = field(default_factory=dict)
    fallen_behind: bool = False
    closed: bool = False
    wake: asyncio.Event = field(default_factory=asyncio.Event)

    def wants(self, subject: Subject) -> bool:
        """Return whether news about a subject belongs on this stream."""
        if subject.entity != self.entity:
            return False
        return self.only is None or subject.kind != "run" or subject.id == self.only

    def offer(self, news: News) -> None:
        """Take news, in place of older news about the same subject."""
        if news.subject not in self.pending and len(self.pending) >= PENDING_MAX:
            self.pending.clear()
            self.fallen_behind = True
        if not self.fallen_behind:
            self.pending[news.subject] = news
        self.wake.set()

    def take_due(self, now: float) -> tuple[list[News], float | None]:
        """Return what may leave now, and how long the rest must wait (None: there is no rest)."""
        due: list[News] = []
        wait: float | None = None
        for subject, news in list(self.pending.items()):
            left = self.sent.get(subject, -INTERVAL_S) + INTERVAL_S - now
            if left <= 0:
                due.append(news)
                del self.pending[subject]
                self.sent[subject] = now
            else:
                wait = left if wait is None else min(wait, left)
        if len(self.sent) > PENDING_MAX:
            self.sent = {each: at for each, at in self.sent.items() if now - at < INTERVAL_S}
        return due, wait


class LiveHub:
    """Hands news to every subscriber it concerns."""

    def __init__(self, subscribers_max: int, per_principal_max: int, clock: Callable[[], float]) -> None:
        self._subscribers: set[Subscriber] = set()
        self._subscribers_max = subscribers_max
        self._per_principal_max = per_principal_max
        self._clock = clock

    def __len__(self) -> int:
        return len(self._subscribers)

    def subscribe(self, entity: str, owner: int, only: tuple[str, ...] | None = None) -> Subscriber:
        """Return a new subscriber. Raise TooManySubscribers at a limit."""
        mine = sum(1 for each in self._subscribers if each.owner == owner)
        if len(self._subscribers) >= self._subscribers_max or mine >= self._per_principal_max:
            raise TooManySubscribers
        subscriber = Subscriber(entity, owner, only)
        self._subscribers.add(subscriber)
        return subscriber

    def unsubscribe(self, subscriber: Subscriber) -> None:
        """Forget a subscriber. May be called twice."""
        self._subscribers.discard(subscriber)

    def publish(self, news: News) -> None:
        """Hand news to whom it concerns. Never waits."""
        for subscriber in self._subscribers:
            if subscriber.wants(news.subject):
                subscriber.offer(news)

    def close(self) -> None:
        """End every event stream."""
        for subscriber in self._subscribers:
            subscriber.closed = True
            subscriber.wake.set()

    async def events(self, subscriber: Subscriber) -> AsyncIterator[bytes]:
        """Yield server-sent events until the hub closes; a ping when nothing happened for PING_S."""
        wait: float | None = None
        while not subscriber.closed:
            try:
                async with asyncio.timeout(PING_S if wait is None else wait):
                    await subscriber.wake.wait()
            except TimeoutError:
                if wait is None:
                    yield b": ping\n\n"
            subscriber.wake.clear()
            if subscriber.fallen_behind:
                subscriber.fallen_behind = False
                yield b"event: reset\ndata: {}\n\n"
            due, wait = subscriber.take_due(self._clock())
            if due:
                yield b"".join(b"event: %s\ndata: %s\n\n" % (n.subject.kind.encode(), n.data) for n in due)
