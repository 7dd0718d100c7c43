"""The answer to bytes that are no HTTP, or too long for it: JSON like every other error, and no traceback.

aiohttp answers these by itself, before there is a request that a handler could see. So this door is in the
one place that it offers: its connections' handle_error().
"""

from __future__ import annotations

from typing import Any

import structlog
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError, LineTooLong

from .errors import ApiError
from .security import add_headers

log = structlog.get_logger()


class JsonErrorRunner(web.AppRunner):
    """An AppRunner whose connections answer with JSON whatever happens to them."""

    async def _make_server(self) -> web.Server:
        made = await super()._make_server()
        return _Server(
            made.request_handler,
            request_factory=made.request_factory,
            loop=made._loop,  # noqa: SLF001
            **made._kwargs,  # noqa: SLF001
        )


class _Server(web.Server):
    def __call__(self) -> web.RequestHandler:
        return _Connection(self, loop=self._loop, **self._kwargs)


class _Connection(web.RequestHandler):
    __slots__ = ()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Return the answer to what could not be parsed, or to a failure outside of every handler."""
        if request.writer.output_size > 0:
            raise ConnectionError("an answer was begun already")
        if isinstance(exc, LineTooLong):
            error = ApiError(
                431, "too_long", "the request line and each header have at most 8190 bytes", "send less there"
            )
        elif isinstance(exc, HttpProcessingError) or status < 500:
            error = ApiError(400, "unparsable_http", _one_line(message or "this is not HTTP"))
        else:
            log.error("connection failed", exc_info=exc)
            error = ApiError(500, "internal", "the server could not answer; its log says why")
        if error.status < 500:
            # Scanners and TLS clients at the wrong port: nothing an operator must be told.
            log.debug("unparsable request", status=error.status, reason=error.reason, remote=request.remote)
        response = error.response()
        add_headers(response)
        response.force_close()
        return response


def _one_line(text: Any) -> str:
    return " ".join(str(text).split())[:200]


__all__ = ["JsonErrorRunner"]
