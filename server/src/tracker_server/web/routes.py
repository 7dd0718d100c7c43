"""Route: one row of the table that serves requests, checks access and documents the API.

Nothing is reachable under /api that is not such a row, so the three cannot drift apart.
"""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import msgspec
from aiohttp import web

from tracker_server.auth import Identity
from tracker_server.principal import Principal

Q = TypeVar("Q")
B = TypeVar("B")


class Access(enum.Enum):
    """Who may use a route."""

    PUBLIC = "no credentials"
    SIGNED_IN = "any key or session"
    READ = "scope read"
    INGEST = "scope ingest"
    READ_OR_INGEST = "scope read or ingest"
    ADMIN = "scope admin"

    def allows(self, principal: Principal) -> bool:
        """Return whether a principal holds a scope this asks for."""
        if self is Access.READ_OR_INGEST:
            return principal.may("read") or principal.may("ingest")
        if self in (Access.PUBLIC, Access.SIGNED_IN):
            return True
        return principal.may(self.name.lower())


class NoQuery(msgspec.Struct, forbid_unknown_fields=True):
    """A route without query parameters."""


@dataclass(frozen=True)
class Call(Generic[Q, B]):
    """A request that was let in: who asks, and its checked parameters and body."""

    request: web.Request
    identity: Identity | None
    query: Q
    body: B

    @property
    def principal(self) -> Principal:
        """Return who asks. Only for routes that are not PUBLIC."""
        assert self.identity is not None
        return self.identity.principal

    def path(self, name: str) -> str:
        """Return a part of the path."""
        return self.request.match_info[name]


@dataclass(frozen=True)
class Route:
    """One method of one path.

    query and body are msgspec types whose limits are checked before the handler runs; a handler with
    `raw` reads the body itself. `answer` documents what it returns; None: not JSON, see `media_type`.
    """

    method: str
    path: str
    access: Access
    handler: Callable[[Call[Any, Any]], Awaitable[Any]]
    summary: str
    answer: Any
    query: Any = NoQuery
    body: Any = None
    raw: str | None = None  #: media type of a body the handler reads itself
    media_type: str = "application/json"
    status: int = 200
