"""Read first: builds every object of the server, starts it, and takes it down in order.

    agent ──▶ web/ingest_api ──▶ ingest/commit ──▶ store/        one writer thread
    browser ─▶ web/*_api ──────▶ store/ (readers)                a few reader threads
    browser ◀─ web/news ◀──────── live.LiveHub ◀── commits       event loop

Nobody imports this module but cli.py. Collaborators are handed in through constructors.
"""

from __future__ import annotations

import asyncio
import errno
import signal
import socket
import time
from collections.abc import Awaitable, Callable
from typing import Any

import structlog
from aiohttp import web

from . import __version__
from .auth import FailureLimiter, Secret
from .config import Settings, url_host
from .data_directory import DataDirectory
from .lanes import Lane
from .live import LiveHub
from .store.accounts import AccountStore
from .store.epoch import begin_life
from .store.errors import StoreUnavailable
from .store.projects import ProjectStore
from .store.store import Store, open_store
from .store.uploads import UploadLimits, Uploads
from .systemd import Systemd
from .web.accounts_api import AccountsApi
from .web.authenticator import Authenticator
from .web.blobs_api import BlobsApi
from .web.crash_api import CrashApi
from .web.endpoint import Endpoint, answer_errors
from .web.errors import ApiError
from .web.files_api import FilesApi
from .web.ingest_api import IngestApi
from .web.machine_api import MachineApi
from .web.news import EventsApi
from .web.openapi import describe
from .web.points_api import PointsApi
from .web.routes import Route
from .web.runs_api import RunsApi
from .web.security import add_headers, allowed_hosts, check_host
from .web.server_api import ServerApi
from .web.stop_api import StopApi, Waiters
from .web.ui import Ui
from .web.unparsable import JsonErrorRunner

log = structlog.get_logger()

#: How long a write waits for another process's lock. A queue of such waits must fit into an agent's patience.
BUSY_TIMEOUT_S = 2.0
FOLD_EVERY_S = 1.0
NOTE_USED_EVERY_S = 30.0
LOOKUPS_WAITING_MAX = 1000
UPLOADS_AT_ONCE = 4


class ListenError(Exception):
    """The server cannot listen where it was told to."""


class Server:
    """Every object of one server, and its life."""

    def __init__(self, settings: Settings, data: DataDirectory, systemd: Systemd) -> None:
        """Open the store, making or migrating it, and wire everything together."""
        limits = settings.limits
        self.settings = settings
        self._data = data
        self._systemd = systemd
        self.store: Store = open_store(data.database_url, data.blobs, busy_timeout_s=BUSY_TIMEOUT_S)
        self.store.blobs.reserve_bytes = limits.blob_reserve_bytes
        self._unfinished = Uploads(
            self.store.blobs,
            UploadLimits(
                limits.uploads,
                limits.uploads_per_principal,
                limits.upload_bytes,
                limits.upload_bytes_per_principal,
            ),
        )
        life = begin_life(self.store.database, data.try_life())
        data.write_life(life.mark)
        self.store.database.on_commit(data.note_commit)
        self.epoch = life.epoch
        self.accounts = AccountStore(self.store)
        self.first_key: Secret | None = self.accounts.ensure_first(
            time.time_ns(), lambda secret: data.write_admin_key(secret.text)
        )
        self._ready = False

        self._writer = Lane("writer", 1, limits.ingest_queue)
        self._decoder = Lane("decoder", 1, limits.ingest_queue)
        # Credentials and stream positions have their own lane: slow charts must not delay ingest.
        self._lookups = Lane("lookups", 1, LOOKUPS_WAITING_MAX)
        self._reader = Lane("reader", limits.read_threads, limits.read_queue)
        self._uploads = Lane("uploads", UPLOADS_AT_ONCE, UPLOADS_AT_ONCE)
        self._folder = Lane("folder", 1, 1)

        self.waiters = Waiters()
        self.hub = LiveHub(limits.live_subscribers, limits.live_subscribers_per_principal, time.monotonic)
        self._authenticator = Authenticator(self.accounts, self._lookups, settings.http.public_url)
        self.routes: list[Route] = self._make_routes()
        self._document = describe(self.routes, __version__)

    def _make_routes(self) -> list[Route]:
        limits, public_url = self.settings.limits, self.settings.http.public_url
        failures = FailureLimiter(limits.signin_failures_per_minute, time.monotonic)
        return [
            *ServerApi(self.epoch, lambda: self._ready, lambda: self._document).routes(),
            *IngestApi(
                self.store, self.epoch, self._writer, self._decoder, self._lookups, self.hub, limits
            ).routes(),
            *RunsApi(self.store, self.accounts, self._reader, self._writer).routes(),
            *StopApi(self.store, self._lookups, self._writer, self.waiters).routes(),
            *CrashApi(self.store, self._reader).routes(),
            *PointsApi(self.store, self._reader).routes(),
            *MachineApi(self.store, self._reader).routes(),
            *BlobsApi(
                self.store,
                ProjectStore(self.store),
                self._lookups,
                self._writer,
                self._uploads,
                self._unfinished,
                limits,
            ).routes(),
            *FilesApi(
                self.store, self._unfinished, self.epoch, self._reader, self._writer, self.hub, limits
            ).routes(),
            *AccountsApi(self.accounts, self._lookups, self._writer, failures, public_url).routes(),
            *EventsApi(self.hub, self._authenticator).routes(),
        ]

    def application(self) -> web.Application:
        """Return the aiohttp application of all routes, the UI and what surrounds them."""
        hosts = allowed_hosts(self.settings.http)
        ui = Ui()

        @web.middleware
        async def surround(
            request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
        ) -> web.StreamResponse:
            async def serve(request: web.Request) -> web.StreamResponse:
                check_host(request, hosts)
                try:
                    return await handler(request)
                except web.HTTPNotFound as error:
                    if request.method in ("GET", "HEAD") and not request.path.startswith("/api/"):
                        return ui.respond(request.path)
                    raise ApiError(404, "no_such_path", "there is nothing at this path") from error
                except web.HTTPMethodNotAllowed as error:
                    raise ApiError(
                        405, "wrong_method", f"this path serves {', '.join(sorted(error.allowed_methods))}"
                    ) from error

            return await answer_errors(serve, request)

        async def on_prepare(_: web.Request, response: web.StreamResponse) -> None:
            add_headers(response)

        async def on_shutdown(_: web.Application) -> None:
            self.hub.close()
            self.waiters.close()

        application = web.Application(middlewares=[surround])
        application.on_response_prepare.append(on_prepare)
        application.on_shutdown.append(on_shutdown)
        for route in self.routes:
            endpoint = Endpoint(route, self._authenticator, self.settings.limits.json_request_bytes)
            application.router.add_route(route.method, route.path, endpoint.__call__)
        return application

    async def run(
        self, listener: socket.socket, stop: asyncio.Event, on_listening: Callable[[str], None]
    ) -> None:
        """Serve until `stop` is set; then finish what is in flight."""
        runner = JsonErrorRunner(
            self.application(),
            access_log=None,
            auto_decompress=False,  # how much a body may grow is for its handler to say
            shutdown_timeout=self.settings.http.shutdown_s,
        )
        await runner.setup()
        try:
            await web.SockSite(runner, listener).start()
            http = self.settings.http
            url = http.public_url or f"http://{url_host(http.host)}:{listener.getsockname()[1]}"
            self._data.write_url(url)
            tasks = [
                asyncio.create_task(self._again_and_again("folding", FOLD_EVERY_S, self._fold)),
                asyncio.create_task(self._again_and_again("key use", NOTE_USED_EVERY_S, self._note_used)),
                asyncio.create_task(self._feed_watchdog()),
            ]
            self._ready = True
            on_listening(url)
            self._systemd.ready(f"serving at {url}")
            await stop.wait()
            log.info("stopping")
            self._systemd.stopping()
            self._ready = False
            for task in tasks:
                task.cancel()
        finally:
            await runner.cleanup()

    def close(self) -> None:
        """Finish what the lanes hold; then close the store."""
        for lane in (self._decoder, self._writer, self._reader, self._lookups, self._uploads, self._folder):
            lane.close()
        used = self._authenticator.take_used()
        if used:
            self.accounts.note_used(used)
        self.store.close()

    async def _fold(self) -> None:
        report = await self._folder.run(self.store.fold_due)
        for points_id, reason in report.failed.items():
            log.error("points could not be folded; they stay readable", points_id=points_id, reason=reason)

    async def _note_used(self) -> None:
        used = self._authenticator.take_used()
        if used:
            await self._writer.run(self.accounts.note_used, used)

    async def _feed_watchdog(self) -> None:
        """Show that the event loop turns. A slow disk keeps threads busy, and a restart would not help."""
        while self._systemd.watchdog_interval_s is not None:
            self._systemd.feed_watchdog()
            await asyncio.sleep(self._systemd.watchdog_interval_s)

    async def _again_and_again(self, name: str, every_s: float, work: Callable[[], Awaitable[Any]]) -> None:
        while True:
            await asyncio.sleep(every_s)
            try:
                await work()
            except StoreUnavailable as error:
                log.error("background work waits for the store", work=name, reason=str(error))
            except Exception:
                log.exception("background work failed; it goes on", work=name)


def listen(host: str, port: int) -> socket.socket:
    """Return a socket bound and listening. Raise ListenError, which says what to do.

    Called before anything else is touched: a server that cannot listen makes no database and no key.
    """
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=256)
    except OSError as error:
        raise ListenError(_why_not_listening(host, port, error)) from error


def _why_not_listening(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} on {host} is in use; stop what uses it or choose another with --port"
    if error.errno == errno.EACCES:
        return f"port {port} needs privileges this user does not have; choose one above 1023 with --port"
    # Names that do not resolve have negative codes (EAI_*).
    if (error.errno or 0) < 0 or error.errno == errno.EADDRNOTAVAIL:
        return f"{host!r} is no address of this machine; choose one with --host, such as 127.0.0.1"
    return f"cannot listen on {host} port {port}: {error}"


async def run_until_signal(
    server: Server, listener: socket.socket, on_listening: Callable[[str], None]
) -> None:
    """Serve until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await server.run(listener, stop, on_listening)
