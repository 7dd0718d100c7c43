"""Endpoint: everything between aiohttp and a route's handler, in one place for all routes.

Order: credentials, scope, entity, query, body, handler, JSON. What a handler raises becomes an error
answer here, and what nobody foresaw becomes a 500 that is logged once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, get_args, get_origin

import msgspec
import structlog
from aiohttp import web

from tracker_server.auth import AccountError, ExistsError, MissingError
from tracker_server.lanes import LaneFull
from tracker_server.store.errors import ChunkError, NotFound, StoreDamaged, StoreUnavailable

from .authenticator import Authenticator
from .errors import ApiError, busy, not_found
from .json_values import encode_json
from .routes import Access, Call, Route

log = structlog.get_logger()

#: Characters of a whole query string; aiohttp bounds the request line at 8190 besides.
QUERY_CHARACTERS_MAX = 8000
#: A body that takes longer is given up; an agent waits no longer for its answer.
BODY_S = 60.0


class Endpoint:
    """Serves one route."""

    def __init__(self, route: Route, authenticator: Authenticator, json_bytes_max: int) -> None:
        self._route = route
        self._authenticator = authenticator
        self._json_bytes_max = json_bytes_max
        fields = msgspec.structs.fields(route.query)
        self._lists = frozenset(each.encode_name for each in fields if _is_list(each.type))
        self._names = frozenset(each.encode_name for each in fields)
        self._body = msgspec.json.Decoder(route.body) if route.body is not None else None

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        return await answer_errors(self._serve, request)

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        route = self._route
        identity = None
        if route.access is not Access.PUBLIC:
            identity = await self._authenticator.identify(request)
            if not route.access.allows(identity.principal):
                raise ApiError(403, "forbidden", f"this needs {route.access.value}")
            # Whatever lies in another entity does not exist for this caller.
            if request.match_info.get("entity", identity.principal.entity) != identity.principal.entity:
                raise not_found("project or run")
        call: Call[Any, Any] = Call(
            request, identity, self._parse_query(request), await self._read_json(request)
        )
        answer = await route.handler(call)
        if isinstance(answer, web.StreamResponse):
            return answer
        return web.Response(body=encode_json(answer), status=route.status, content_type="application/json")

    def _parse_query(self, request: web.Request) -> Any:
        if len(request.rel_url.raw_query_string) > QUERY_CHARACTERS_MAX:
            raise ApiError(414, "too_long", f"a query has at most {QUERY_CHARACTERS_MAX} characters")
        given: dict[str, Any] = {}
        for name, value in request.query.items():
            if name not in self._names:
                known = ", ".join(sorted(self._names)) or "none"
                raise ApiError(
                    400, "bad_parameter", f"unknown query parameter {name[:100]!r}", f"known: {known}"
                )
            if name in self._lists:
                given.setdefault(name, []).append(value)
            elif name in given:
                raise ApiError(400, "bad_parameter", f"query parameter {name!r} was given twice")
            elif value != "":  # an empty form field is one that was not filled in
                given[name] = value
        try:
            return msgspec.convert(given, self._route.query, strict=False)
        except msgspec.ValidationError as error:
            raise ApiError(400, "bad_parameter", str(error).replace("$.", "")) from error

    async def _read_json(self, request: web.Request) -> Any:
        if self._body is None:
            return None
        if request.content_type != "application/json":
            raise ApiError(415, "bad_media_type", "the body must be JSON", "Content-Type: application/json")
        if request.headers.get("Content-Encoding", "identity") != "identity":
            raise ApiError(415, "bad_encoding", "this body must not be compressed")
        try:
            return self._body.decode(await read_body(request, self._json_bytes_max))
        except msgspec.ValidationError as error:
            raise ApiError(422, "bad_body", str(error).replace("$.", "")) from error
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ApiError(400, "bad_json", f"the body is not valid JSON: {error}") from error


def _is_list(hint: Any) -> bool:
    plain = get_args(hint)[0] if get_origin(hint) is Annotated else hint
    return get_origin(plain) is list


async def read_body(
    request: web.Request, bytes_max: int, arrived: Callable[[int], None] = lambda _: None
) -> bytes:
    """Return the body; arrived() is told of each part's bytes before it is kept, and may raise.

    Raise ApiError 413 as soon as it is known to be longer than bytes_max, 408 when it takes too long.
    """
    too_large = ApiError(413, "too_large", f"this body may have at most {bytes_max} bytes")
    if (request.content_length or 0) > bytes_max:
        raise too_large
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(BODY_S):
            async for part in request.content.iter_any():
                size += len(part)
                if size > bytes_max:
                    raise too_large
                arrived(len(part))
                parts.append(part)
    except TimeoutError as error:
        raise ApiError(408, "too_slow", f"the body was not there after {BODY_S:g} s") from error
    return b"".join(parts)


async def answer_errors(
    serve: Callable[[web.Request], Awaitable[web.StreamResponse]], request: web.Request
) -> web.StreamResponse:
    """Return what serve() answers, or an error answer for what it raises."""
    try:
        return await serve(request)
    except Exception as error:
        known = to_api_error(error)
        if known is not None:
            return known.response()
        if isinstance(error, web.HTTPException | ConnectionError):
            raise
        log.exception("request failed", method=request.method, path=request.path)
        return ApiError(
            500, "internal", "the server could not answer; its log says why", "report it if it stays"
        ).response()


def to_api_error(error: Exception) -> ApiError | None:
    """Return the answer for an error we know, or None."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, LaneFull):
        return busy()
    if isinstance(error, NotFound):
        return not_found("run, project or host")
    if isinstance(error, StoreUnavailable):
        log.error("store unavailable", reason=str(error))
        return ApiError(503, "store_unavailable", "the store cannot be used now", "try again", 5.0)
    # SQLite says "malformed" for a page that the disk would not read, too: that may pass, and whoever
    # sends keeps what he has. Damage within one chunk is another thing: it stays.
    if isinstance(error, StoreDamaged) and not isinstance(error, ChunkError):
        log.error("store damaged", reason=str(error))
        return ApiError(
            503, "store_unavailable", "the store cannot be read now; the server's log says why", None, 30.0
        )
    if isinstance(error, ExistsError):
        return ApiError(409, "exists", str(error))
    if isinstance(error, MissingError):
        return ApiError(404, "not_found", str(error))
    if isinstance(error, AccountError):
        return ApiError(422, "bad_account", str(error))
    return None
