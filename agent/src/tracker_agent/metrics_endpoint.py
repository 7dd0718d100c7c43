"""Serves figures and the agent's health over HTTP, for Prometheus and for whoever restarts agents.

GET /metrics    the figures of the agent and of the machine
GET /healthz    200, or 503 when a part of the agent is stuck, so that a restart would help
GET /readyz     200 when what there is is shipped, or there is nothing to ship; else 503 and why
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from aiohttp import web
from structlog.typing import FilteringBoundLogger

from .health import Verdict
from .telemetry import Telemetry

#: How long until an address that could not be had is tried again.
RETRY_S = 30.0
#: The socket's group may read, too: put a collector's user into it.
SOCKET_MODE = 0o660
BACKLOG = 16


class MetricsEndpoint:
    """Listens at "HOST:PORT" or "unix:/PATH" until cancelled."""

    def __init__(
        self,
        listen: str,
        telemetry: Telemetry,
        verdict: Callable[[], Verdict],
        log: FilteringBoundLogger,
        retry_s: float = RETRY_S,
    ) -> None:
        self.listen = listen
        self.problem = ""
        self.address: Any = None  #: what the socket is bound to
        self._telemetry = telemetry
        self._verdict = verdict
        self._log = log
        self._retry_s = retry_s

    async def run(self) -> None:
        """Serve. Where the address cannot be had, say so and try again: shipping goes on without it."""
        while True:
            runner = web.AppRunner(self._application(), access_log=None, shutdown_timeout=1.0)
            await runner.setup()
            try:
                await self._site(runner).start()
                self.problem, self.address = "", runner.addresses[0]
                self._log.info("metrics are served", listen=self.listen)
                await asyncio.Event().wait()
            except OSError as error:
                self.problem = f"cannot serve metrics at {self.listen}: {error.strerror or error}"
                self._log.error("cannot serve metrics", listen=self.listen, reason=str(error))
            finally:
                await runner.cleanup()
            await asyncio.sleep(self._retry_s)

    def status(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {"listen": self.listen, "problem": self.problem}

    def _site(self, runner: web.AppRunner) -> web.BaseSite:
        if self.listen.startswith("unix:"):
            path = Path(self.listen.removeprefix("unix:"))
            return web.SockSite(runner, _bind(path), backlog=BACKLOG)
        host, _, port = self.listen.rpartition(":")
        return web.TCPSite(runner, host.strip("[]"), int(port), backlog=BACKLOG)

    def _application(self) -> web.Application:
        application = web.Application()
        application.router.add_get("/metrics", self._metrics)
        application.router.add_get("/healthz", self._healthz)
        application.router.add_get("/readyz", self._readyz)
        return application

    async def _metrics(self, request: web.Request) -> web.Response:
        body, content_type = await self._telemetry.scrape(request.headers.get("Accept", ""))
        return web.Response(body=body, headers={"Content-Type": content_type})

    async def _healthz(self, _: web.Request) -> web.Response:
        verdict = self._verdict()
        return _answer(verdict, verdict.alive)

    async def _readyz(self, _: web.Request) -> web.Response:
        verdict = self._verdict()
        return _answer(verdict, verdict.ready)


def _answer(verdict: Verdict, well: bool) -> web.Response:
    text = "\n".join([verdict.state, *verdict.reasons]) + "\n"
    return web.Response(status=200 if well else 503, text=text)


def _bind(path: Path) -> socket.socket:
    """Return a socket bound to a path, in place of one that an agent before this one left there."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    before = os.umask(0o777 & ~SOCKET_MODE)
    try:
        if path.is_socket():
            path.unlink()
        listener.bind(str(path))
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    finally:
        os.umask(before)
    return listener
