"""Files by content: asked for first, then sent in parts or whole, always within one project.

Whether the server holds some bytes is itself a secret of the projects that hold them, so each project
is asked and filled on its own.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator

import msgspec
from aiohttp import web

from tracker_server.config import LimitSettings
from tracker_server.ingest.writer import valid_project
from tracker_server.lanes import Lane
from tracker_server.store.blobs import BlobMismatch
from tracker_server.store.projects import ProjectStore
from tracker_server.store.store import Store
from tracker_server.store.uploads import Key, Uploads, WrongOffset

from . import answers
from .byte_budget import ByteBudget
from .endpoint import read_body
from .errors import ApiError, not_found
from .routes import Access, Call, NoQuery, Route

PATH = "/api/v1/projects/{entity}/{project}/blobs/{sha256}"
OFFSET_HEADER = "X-Tracker-Offset"
SIZE_HEADER = "X-Tracker-Size"
PART_BYTES_MAX = 8 * 1024 * 1024
#: Parts are held in memory until they are written; more gets 503.
PARTS_BYTES_IN_FLIGHT = 128 * 1024 * 1024
#: How long an upload may stand still.
BLOCK_S = 60.0
_HEX = frozenset("0123456789abcdef")


class UploadAnswer(msgspec.Struct):
    """How much of a file is there; done: all of it, and its digest is right."""

    offset: int
    done: bool


class BlobsApi:
    """HEAD, PUT and PATCH of blobs."""

    def __init__(
        self,
        store: Store,
        projects: ProjectStore,
        reader: Lane,
        writer: Lane,
        uploads: Lane,
        unfinished: Uploads,
        limits: LimitSettings,
        now: Callable[[], int] = time.time_ns,
    ) -> None:
        self._store = store
        self._projects = projects
        self._reader = reader
        self._writer = writer
        self._uploads = uploads
        self._unfinished = unfinished
        self._budget = ByteBudget(PARTS_BYTES_IN_FLIGHT)
        self._bytes_max = limits.blob_bytes
        self._now = now

    def routes(self) -> list[Route]:
        """Return what this serves."""
        return [
            Route(
                "HEAD",
                PATH,
                Access.READ_OR_INGEST,
                self.head,
                "Ask whether a project has a file, and how much of one the caller has sent",
                None,
            ),
            Route(
                "PATCH",
                PATH,
                Access.INGEST,
                self.patch,
                "Give a project the next part of a file: from X-Tracker-Offset on, of X-Tracker-Size",
                UploadAnswer,
                raw="application/octet-stream",
            ),
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
        """Answer 200 with the file's length, or 404 with how much of it this principal has sent."""
        sha256 = _digest(call)
        project_id = await self._reader.run(
            self._projects.try_id, call.principal.entity_id, call.path("project")
        )
        size = None
        if project_id is not None:
            size = await self._reader.run(self._store.blobs.size, project_id, sha256)
        if size is None:
            missing = not_found("file").response()
            if project_id is not None and call.principal.may("ingest"):
                offset = self._unfinished.offset(Key(call.principal.id, project_id, sha256))
                missing.headers[OFFSET_HEADER] = str(offset)
            return missing
        return web.Response(headers={SIZE_HEADER: str(size)})

    async def patch(self, call: Call[NoQuery, None]) -> UploadAnswer | web.Response:
        """Store a part. Parts come in order; 409 tells where the upload goes on."""
        sha256 = _digest(call)
        offset, size = _number(call, OFFSET_HEADER), _number(call, SIZE_HEADER)
        if size > self._bytes_max:
            raise ApiError(422, "file_too_large", f"a file has at most {self._bytes_max} bytes")
        with self._budget.share(call.principal.id) as take:
            part = await read_body(call.request, PART_BYTES_MAX, take)
            if offset + len(part) > size:
                raise ApiError(400, "bad_part", f"{len(part)} bytes at {offset} do not fit into {size}")
            if not part and size:
                raise ApiError(400, "bad_part", "a part has at least one byte")
            key = Key(call.principal.id, await self._project(call), sha256)
            try:
                there = await self._uploads.run(self._unfinished.append, key, offset, size, part)
            except BlobMismatch as error:
                raise ApiError(422, "wrong_digest", str(error)) from error
            except WrongOffset as error:
                answer = ApiError(409, "wrong_offset", str(error)).response()
                answer.headers[OFFSET_HEADER] = str(error.offset)
                return answer
        return UploadAnswer(there, there >= size)

    async def put(self, call: Call[NoQuery, None]) -> answers.Done:
        """Store a file."""
        sha256 = _digest(call)
        length = call.request.content_length
        if length is None:
            raise ApiError(411, "no_length", "a file needs a Content-Length")
        if length > self._bytes_max:
            raise ApiError(413, "too_large", f"a file has at most {self._bytes_max} bytes")
        project_id = await self._project(call)
        await self._reader.run(self._store.blobs.check_room, length)
        blocks = _blocks(call.request, asyncio.get_running_loop())
        try:
            await self._uploads.run(self._store.blobs.put, project_id, sha256, blocks)
        except BlobMismatch as error:
            raise ApiError(422, "wrong_digest", str(error)) from error
        except TimeoutError as error:
            raise ApiError(408, "too_slow", "the upload stood still for too long") from error
        return answers.Done()

    async def _project(self, call: Call[NoQuery, None]) -> int:
        """Return the number of the project in the path; it is made when a file comes before its runs."""
        project = call.path("project")
        if not valid_project(project):
            raise ApiError(
                422, "bad_project", "a project's name has 1 to 128 characters without / \\ # ? % :"
            )
        entity_id = call.principal.entity_id
        found = await self._reader.run(self._projects.try_id, entity_id, project)
        if found is not None:
            return found
        return await self._writer.run(self._projects.ensure, entity_id, project, self._now())


def _blocks(request: web.Request, loop: asyncio.AbstractEventLoop) -> Iterator[bytes]:
    """Yield the body's blocks in a thread of the lane, as they arrive at the loop."""

    async def read() -> bytes:
        async with asyncio.timeout(BLOCK_S):
            return await request.content.readany()

    while block := asyncio.run_coroutine_threadsafe(read(), loop).result():
        yield block


def _number(call: Call[NoQuery, None], header: str) -> int:
    text = call.request.headers.get(header, "")
    if not (text.isascii() and text.isdecimal() and len(text) < 19):
        raise ApiError(400, "bad_part", f"a part needs {header}: a number of bytes")
    return int(text)


def _digest(call: Call[NoQuery, None]) -> str:
    sha256 = call.path("sha256")
    if len(sha256) != 64 or set(sha256) - _HEX:
        raise ApiError(400, "bad_digest", "a file is named by its SHA-256 as 64 lower-case hex digits")
    return sha256
