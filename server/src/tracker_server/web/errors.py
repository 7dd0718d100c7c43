"""ApiError: an answer that says what was wrong and what to do, as JSON {"error", "reason", "hint"}."""

from __future__ import annotations

import msgspec
from aiohttp import web

from .answers import Error


class ApiError(Exception):
    """Ends a request with an error answer. `error` is a stable code, reason and hint are for people."""

    def __init__(
        self,
        status: int,
        error: str,
        reason: str,
        hint: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(reason)
        self.status = status
        self.error = error
        self.reason = reason
        self.hint = hint
        self.retry_after_s = retry_after_s

    def response(self) -> web.Response:
        """Return the HTTP answer."""
        response = web.Response(
            status=self.status,
            body=msgspec.json.encode(Error(self.error, self.reason, self.hint)),
            content_type="application/json",
        )
        if self.retry_after_s is not None:
            response.headers["Retry-After"] = str(max(1, round(self.retry_after_s)))
        if self.status == 401:
            response.headers["WWW-Authenticate"] = 'Bearer realm="tracker"'
        return response


def not_found(what: str) -> ApiError:
    """Return the same answer for what does not exist and for what the caller may not know of."""
    return ApiError(404, "not_found", f"there is no such {what}, or this key may not see it")


def busy(retry_after_s: float = 1.0) -> ApiError:
    """Return the answer while too much work is waiting."""
    return ApiError(
        503, "busy", "the server has as much work waiting as it takes on", "try again", retry_after_s
    )
