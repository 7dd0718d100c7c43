"""Principals, API keys and signing in.

An admin administers the own entity. Admins of the first entity operate the server: they may also make
entities, and principals and keys in any entity.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Annotated, Literal

from aiohttp import web
from msgspec import Meta, Struct

from tracker_server.auth import SESSION_S, FailureLimiter, Identity, is_operator, parse_scopes
from tracker_server.lanes import Lane
from tracker_server.principal import Principal
from tracker_server.store.accounts import AccountStore, Key

from . import answers
from .authenticator import SESSION_COOKIE
from .errors import ApiError
from .json_values import encode_json
from .routes import Access, Call, NoQuery, Route
from .security import check_not_cross_site

#: Entity and principal names stand in paths and on screens.
AccountName = Annotated[str, Meta(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
EXPIRES_MAX_S = 10 * 366 * 24 * 3600


class PrincipalBody(Struct, forbid_unknown_fields=True):
    """A new user or service account."""

    name: AccountName
    kind: Literal["user", "service"] = "user"
    entity: AccountName | None = None


class KeyBody(Struct, forbid_unknown_fields=True):
    """A new key for a principal (default: the caller) that ends after expires_s seconds (default: never)."""

    name: Annotated[str, Meta(min_length=1, max_length=128)]
    scopes: Annotated[list[Literal["ingest", "read", "admin"]], Meta(min_length=1, max_length=3)]
    principal: AccountName | None = None
    entity: AccountName | None = None
    expires_s: Annotated[int, Meta(ge=1, le=EXPIRES_MAX_S)] | None = None


class SigninBody(Struct, forbid_unknown_fields=True):
    """A one-time token from `tracker-server signin-link`, or an API key with scope read."""

    token: Annotated[str, Meta(max_length=200)] | None = None
    key: Annotated[str, Meta(max_length=200)] | None = None


class EntityQuery(Struct):
    """Whose accounts; the own entity when not given."""

    entity: AccountName | None = None


class AccountsApi:
    """Serves principals, keys, and the session of a browser."""

    def __init__(
        self,
        accounts: AccountStore,
        reader: Lane,
        writer: Lane,
        failures: FailureLimiter,
        public_url: str,
        now: Callable[[], int] = time.time_ns,
    ) -> None:
        self._accounts = accounts
        self._reader = reader
        self._writer = writer
        self._failures = failures
        self._public_url = public_url
        self._now = now

    def routes(self) -> list[Route]:
        """Return what this serves."""
        admin = Access.ADMIN
        return [
            Route("GET", "/api/v1/me", Access.SIGNED_IN, self.me, "Say who is asking", answers.Me),
            Route(
                "POST",
                "/api/v1/signin",
                Access.PUBLIC,
                self.signin,
                "Sign a browser in",
                answers.Me,
                body=SigninBody,
            ),
            Route(
                "POST", "/api/v1/signout", Access.SIGNED_IN, self.signout, "Sign a browser out", answers.Done
            ),
            Route(
                "GET",
                "/api/v1/principals",
                admin,
                self.principals,
                "List users and service accounts",
                answers.PrincipalsAnswer,
                query=EntityQuery,
            ),
            Route(
                "POST",
                "/api/v1/principals",
                admin,
                self.create_principal,
                "Make a user or service account",
                answers.Principal,
                body=PrincipalBody,
                status=201,
            ),
            Route(
                "GET",
                "/api/v1/keys",
                admin,
                self.keys,
                "List API keys, without their secrets",
                answers.KeysAnswer,
                query=EntityQuery,
            ),
            Route(
                "POST",
                "/api/v1/keys",
                admin,
                self.create_key,
                "Make an API key; its text is shown this once",
                answers.NewKey,
                body=KeyBody,
                status=201,
            ),
            Route("DELETE", "/api/v1/keys/{id}", admin, self.revoke_key, "Revoke an API key", answers.Key),
        ]

    async def me(self, call: Call[NoQuery, None]) -> answers.Me:
        """Say who is asking."""
        return _me(call.principal)

    # --- signing in ---

    async def signin(self, call: Call[NoQuery, SigninBody]) -> web.Response:
        """Exchange a one-time token or a key for a session cookie."""
        check_not_cross_site(call.request, self._public_url)
        body = call.body
        if (body.token is None) == (body.key is None):
            raise ApiError(422, "bad_body", "give either token or key")
        address = call.request.remote or ""
        wait_s = self._failures.wait_s(address)
        if wait_s > 0:
            raise ApiError(
                429,
                "too_many_failures",
                "too many failed sign-ins from this address",
                "wait a minute",
                wait_s,
            )
        identity = await self._try_signin(body)
        if identity is None:
            self._failures.count_failure(address)
            raise ApiError(
                401,
                "signin_failed",
                "this link was used already, is too old, or never was one"
                if body.token is not None
                else "this API key is unknown, expired or revoked",
                "make a new link with `tracker-server signin-link`",
            )
        if not identity.principal.may("read"):
            raise ApiError(403, "forbidden", "signing in needs a key with scope read")
        session = await self._writer.run(self._accounts.create_session, identity, self._now())
        response = web.Response(body=encode_json(_me(identity.principal)), content_type="application/json")
        response.set_cookie(
            SESSION_COOKIE,
            session.text,
            max_age=SESSION_S,
            path="/",
            httponly=True,
            samesite="Strict",
            secure=self._public_url.startswith("https:"),
        )
        return response

    async def _try_signin(self, body: SigninBody) -> Identity | None:
        if body.token is not None:
            return await self._writer.run(self._accounts.take_signin, body.token, self._now())
        assert body.key is not None
        return await self._reader.run(self._accounts.try_key, body.key, self._now())

    async def signout(self, call: Call[NoQuery, None]) -> web.Response:
        """End the session of the cookie that was sent."""
        cookie = call.request.cookies.get(SESSION_COOKIE)
        if cookie is not None:
            await self._writer.run(self._accounts.delete_session, cookie)
        response = web.Response(body=encode_json(answers.Done()), content_type="application/json")
        response.del_cookie(SESSION_COOKIE, path="/", httponly=True, samesite="Strict")
        return response

    # --- principals and keys ---

    async def principals(self, call: Call[EntityQuery, None]) -> answers.PrincipalsAnswer:
        """List the principals of an entity."""
        entity = _administered(call.principal, call.query.entity)
        found = await self._reader.run(self._accounts.principals, entity)
        return answers.PrincipalsAnswer([answers.Principal(p.entity, p.name, p.kind) for p in found])

    async def create_principal(self, call: Call[NoQuery, PrincipalBody]) -> answers.Principal:
        """Make a principal."""
        body = call.body
        entity = _administered(call.principal, body.entity)
        made = await self._writer.run(
            self._accounts.create_principal, entity, body.name, body.kind, self._now()
        )
        return answers.Principal(made.entity, made.name, made.kind)

    async def keys(self, call: Call[EntityQuery, None]) -> answers.KeysAnswer:
        """List the keys of an entity."""
        entity = _administered(call.principal, call.query.entity)
        return answers.KeysAnswer(
            [_key(key) for key in await self._reader.run(self._accounts.list_keys, entity)]
        )

    async def create_key(self, call: Call[NoQuery, KeyBody]) -> answers.NewKey:
        """Make a key."""
        body = call.body
        entity = _administered(call.principal, body.entity)
        name = body.principal or call.principal.name
        owner = await self._reader.run(self._accounts.principal, entity, name)
        now = self._now()
        expires = None if body.expires_s is None else now + body.expires_s * 1_000_000_000
        scopes = parse_scopes(list(body.scopes))
        secret = await self._writer.run(self._accounts.create_key, owner.id, body.name, scopes, now, expires)
        return answers.NewKey(secret.id, secret.text)

    async def revoke_key(self, call: Call[NoQuery, None]) -> answers.Key:
        """Revoke a key; it stops working with the next request."""
        entity = None if is_operator(call.principal) else call.principal.entity
        return _key(await self._writer.run(self._accounts.revoke_key, call.path("id"), entity, self._now()))


def _administered(principal: Principal, entity: str | None) -> str:
    if entity is None or entity == principal.entity:
        return principal.entity
    if not is_operator(principal):
        raise ApiError(403, "forbidden", "only admins of the first entity may administer other entities")
    return entity


def _me(principal: Principal) -> answers.Me:
    return answers.Me(principal.name, principal.kind, principal.entity, sorted(principal.scopes))


def _key(key: Key) -> answers.Key:
    return answers.Key(
        id=key.id,
        name=key.name,
        entity=key.entity,
        principal=key.principal,
        kind=key.kind,
        scopes=list(key.scopes),
        created=key.created,
        expires=key.expires,
        used=key.used,
        revoked=key.revoked,
    )
