"""Authenticator: from a request's credentials to an Identity."""

from __future__ import annotations

import time
from collections.abc import Callable

from aiohttp import web

from tracker_server.auth import Identity
from tracker_server.lanes import Lane
from tracker_server.store.accounts import AccountStore

from .errors import ApiError
from .security import check_session_request

SESSION_COOKIE = "tracker_session"
#: Keys whose last use waits to be written; more are simply not noted until the next round.
USED_MAX = 10_000


class Authenticator:
    """Looks up keys and sessions, and remembers when keys were used."""

    def __init__(
        self,
        accounts: AccountStore,
        reader: Lane,
        public_url: str,
        now: Callable[[], int] = time.time_ns,
    ) -> None:
        self._accounts = accounts
        self._reader = reader
        self._public_url = public_url
        self._now = now
        self._used: dict[str, int] = {}

    async def identify(self, request: web.Request) -> Identity:
        """Return who asks. Raise ApiError 401 when that is unknown, 403 when another site is behind it."""
        header = request.headers.get("Authorization")
        if header is not None:
            scheme, _, text = header.partition(" ")
            if scheme.lower() != "bearer":
                raise ApiError(
                    401, "unauthorized", "only bearer keys are accepted", "Authorization: Bearer <key>"
                )
            identity = await self._reader.run(self._accounts.try_key, text.strip(), self._now())
            if identity is None:
                raise ApiError(
                    401,
                    "unauthorized",
                    "this API key is unknown, expired or revoked",
                    "make one with `tracker-server key create`",
                )
            if identity.key is not None and (identity.key in self._used or len(self._used) < USED_MAX):
                self._used[identity.key] = self._now()
            return identity
        cookie = request.cookies.get(SESSION_COOKIE)
        if cookie is not None:
            check_session_request(request, self._public_url)
            identity = await self._reader.run(self._accounts.try_session, cookie, self._now())
            if identity is not None:
                return identity
            raise ApiError(401, "unauthorized", "this session is over", "sign in again")
        raise ApiError(
            401,
            "unauthorized",
            "no credentials were sent",
            "send an API key (Authorization: Bearer <key>) or sign in",
        )

    def take_used(self) -> dict[str, int]:
        """Return when which key was last used since the last call."""
        used, self._used = self._used, {}
        return used
