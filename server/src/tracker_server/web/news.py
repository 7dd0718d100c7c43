"""GET /api/v1/events: what has changed, as server-sent events (live.py)."""

from __future__ import annotations

import asyncio
from typing import Annotated

import msgspec
from aiohttp import web
from msgspec import Meta, Struct

from tracker_server.ingest.commit import AnyNews, HostNews, RunNews
from tracker_server.live import LiveHub, News, Subject, TooManySubscribers

from .authenticator import Authenticator
from .errors import ApiError
from .routes import Access, Call, Route

#: A subscriber that has not taken a write for so long is gone.
WRITE_S = 60.0
#: How often an open stream's credential is looked up again.
CHECK_S = 5.0


class EventsQuery(Struct):
    """run = entity/project/run: news about this run only."""

    run: Annotated[str, Meta(max_length=400)] | None = None


class EventsApi:
    """Serves event streams until the tab closes, the credential ends or the server stops."""

    def __init__(self, hub: LiveHub, authenticator: Authenticator) -> None:
        self._hub = hub
        self._authenticator = authenticator

    def routes(self) -> list[Route]:
        """Return what this serves."""
        return [
            Route(
                "GET",
                "/api/v1/events",
                Access.READ,
                self.events,
                "Follow news as server-sent events: `run`, `host`, `host_event`, and `reset` after a gap",
                None,
                query=EventsQuery,
                media_type="text/event-stream",
            )
        ]

    async def events(self, call: Call[EventsQuery, None]) -> web.StreamResponse:
        """Answer with an event stream."""
        principal = call.principal
        only = _parse_run(call.query.run, principal.entity)
        try:
            subscriber = self._hub.subscribe(principal.entity, principal.id, only)
        except TooManySubscribers as error:
            raise ApiError(
                429, "too_many", "too many event streams are open", "close some tabs", 5.0
            ) from error
        try:
            response = web.StreamResponse(
                headers={
                    "Content-Type": "text/event-stream",
                    "X-Accel-Buffering": "no",
                    "Cache-Control": "no-store",
                }
            )
            response.force_close()  # the end of the stream is the end of the connection
            await response.prepare(call.request)
            # A browser that reconnects repeats the id it saw: it has missed news in between.
            start = b"retry: 2000\nid: 1\n\n"
            if "Last-Event-ID" in call.request.headers:
                start += b"event: reset\ndata: {}\n\n"
            await response.write(start)
            loop = asyncio.get_running_loop()
            checked = loop.time()
            async for data in self._hub.events(subscriber):
                if loop.time() - checked >= CHECK_S:
                    # This is when a revoked key, or a session that ended, is noticed.
                    await self._authenticator.identify(call.request)
                    checked = loop.time()
                async with asyncio.timeout(WRITE_S):
                    await response.write(data)
        except (ConnectionError, TimeoutError, ApiError):
            pass
        finally:
            self._hub.unsubscribe(subscriber)
        return response


def _parse_run(text: str | None, entity: str) -> tuple[str, ...] | None:
    if text is None:
        return None
    parts = tuple(text.split("/"))
    if len(parts) != 3:
        raise ApiError(400, "bad_parameter", "run must look like entity/project/run")
    if parts[0] != entity:
        raise ApiError(404, "not_found", "there is no such run, or this key may not see it")
    return parts[1:]


def to_news(news: AnyNews) -> News:
    """Return a commit's news as what subscribers get."""
    if isinstance(news, RunNews):
        subject = Subject(news.entity, "run", (news.project, news.run))
        return News(subject, msgspec.json.encode(news))
    kind = "host" if isinstance(news, HostNews) else "host_event"
    return News(Subject(news.entity, kind, (news.machine,)), msgspec.json.encode({"machine": news.machine}))
