"""What anyone may ask: is this a Tracker server, is it ready, and what does its API look like."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aiohttp import web

from tracker_server import __version__

from . import answers
from .errors import ApiError
from .ingest_api import PROTOCOL
from .routes import Access, Call, NoQuery, Route

OPENAPI_PATH = "/api/v1/openapi.json"

#: What agents may use that not every server has (docs/protocol.md).
CAPABILITIES = ["zstd", "files", "requests"]


class ServerApi:
    """Serves the server's identity, health and API document."""

    def __init__(self, epoch: str, ready: Callable[[], bool], document: Callable[[], dict[str, Any]]) -> None:
        self._epoch = epoch
        self._ready = ready
        self._document = document

    def routes(self) -> list[Route]:
        """Return what this serves."""
        get, public = "GET", Access.PUBLIC
        return [
            Route(
                get, "/api/v1/server", public, self.server, "Say what this server is", answers.ServerAnswer
            ),
            Route(get, OPENAPI_PATH, public, self.openapi, "This document", dict[str, Any]),
            Route(get, "/healthz", public, self.health, "Say that the process answers", answers.Ready),
            Route(
                get, "/readyz", public, self.readiness, "Say whether requests can be served", answers.Ready
            ),
        ]

    async def server(self, _: Call[NoQuery, None]) -> answers.ServerAnswer:
        """Say what this server is and which protocol it speaks."""
        return answers.ServerAnswer("tracker", __version__, PROTOCOL, CAPABILITIES, self._epoch)

    async def openapi(self, _: Call[NoQuery, None]) -> dict[str, Any]:
        """Return the API document."""
        return self._document()

    async def health(self, _: Call[NoQuery, None]) -> answers.Ready:
        """Answer as long as the event loop turns."""
        return answers.Ready("ok")

    async def readiness(self, _: Call[NoQuery, None]) -> answers.Ready | web.Response:
        """Answer 503 while starting, stopping, or when writing is impossible."""
        if not self._ready():
            raise ApiError(503, "not_ready", "the server is starting or stopping", retry_after_s=1)
        return answers.Ready("ready")
