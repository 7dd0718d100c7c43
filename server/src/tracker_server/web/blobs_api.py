"""Files by content: asked for first, then sent whole, always within one project.

Whether the server holds some bytes is itself a secret of the projects that hold them, so each project
is asked and filled on its own.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator

from aiohttp import web

from tracker_server.config import LimitSettings
from tracker_server.ingest.writer import valid_project
from tracker_server.lanes import Lane
from tracker_server.store.blobs import BlobMismatch
from tracker_server.store.projects import ProjectStore
from tracker_server.store.store import Store

from . import answers
from .errors import ApiError, not_found
from .routes import Access, Call, NoQuery, Route

PATH = "/api/v1/projects/{entity}/{project}/blobs/{sha256}"
#: How long an upload may stand still.
BLOCK_S = 60.0
_HEX = frozenset("0123456789abcdef")


class BlobsApi:
    """HEAD and PUT of blobs."""

    def __init__(
        self,
        store: Store,
        projects: ProjectStore,
        reader: Lane,
        writer: Lane,
        uploads: Lane,
        limits: LimitSettings,
        now: Callable[[], int] = time.time_ns,
    ) -> None:
        self._store = store
        self._projects = projects
        self._reader = reader
        self._writer = writer
        self._uploads = uploads
        self._bytes_max = limits.blob_bytes
        self._now = now

    def routes(self) -> list[Route]:
        """Return what this serves."""
        return [
            Route("HEAD", PATH, Access.READ_OR_INGEST, self.head, "Ask whether a project has a file", None),
            Route(
                "PUT",
                PATH,
                Access.INGEST,
                self.put,
                "Give a project a file; its bytes must have the digest in the path",
                answers.Done,
                raw="application/octet-stream",
            ),
        ]

    async def head(self, call: Call[NoQuery, None]) -> web.Response:
        """Answer 200 with the file's length, or 404."""
        sha256 = _digest(call)
        project_id = await self._reader.run(
            self._projects.try_id, call.principal.entity_id, call.path("project")
        )
        size = None
        if project_id is not None:
            size = await self._reader.run(self._store.blobs.size, project_id, sha256)
        if size is None:
            raise not_found("file")
        return web.Response(headers={"X-Tracker-Size": str(size)})

    async def put(self, call: Call[NoQuery, None]) -> answers.Done:
        """Store a file."""
        sha256 = _digest(call)
        project = call.path("project")
        if not valid_project(project):
            raise ApiError(
                422, "bad_project", "a project's name has 1 to 128 characters without / \\ # ? % :"
            )
        length = call.request.content_length
        if length is None:
            raise ApiError(411, "no_length", "a file needs a Content-Length")
        if length > self._bytes_max:
            raise ApiError(413, "too_large", f"a file has at most {self._bytes_max} bytes")
        project_id = await self._writer.run(
            self._projects.ensure, call.principal.entity_id, project, self._now()
        )
        blocks = _blocks(call.request, asyncio.get_running_loop())
        try:
            await self._uploads.run(self._store.blobs.put, project_id, sha256, blocks)
        except BlobMismatch as error:
            raise ApiError(422, "wrong_digest", str(error)) from error
        except TimeoutError as error:
            raise ApiError(408, "too_slow", "the upload stood still for too long") from error
        return answers.Done()


def _blocks(request: web.Request, loop: asyncio.AbstractEventLoop) -> Iterator[bytes]:
    """Yield the body's blocks in a thread of the lane, as they arrive at the loop."""

    async def read() -> bytes:
        async with asyncio.timeout(BLOCK_S):
            return await request.content.readany()

    while block := asyncio.run_coroutine_threadsafe(read(), loop).result():
        yield block


def _digest(call: Call[NoQuery, None]) -> str:
    sha256 = call.path("sha256")
    if len(sha256) != 64 or set(sha256) - _HEX:
        raise ApiError(400, "bad_digest", "a file is named by its SHA-256 as 64 lower-case hex digits")
    return sha256
