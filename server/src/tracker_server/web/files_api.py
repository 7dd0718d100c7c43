"""The files of runs: agents say which path has which content, readers list and fetch them.

What is fetched was written by users: it is always a download, never a page of ours.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Annotated, Any
from urllib.parse import quote

from aiohttp import web
from msgspec import UNSET, Meta, Struct, UnsetType

from tracker_server.config import LimitSettings
from tracker_server.ingest.files import Outcome, Told, set_files
from tracker_server.lanes import Lane
from tracker_server.live import LiveHub
from tracker_server.store.projects import ProjectStore
from tracker_server.store.run_files import RunFile, RunFileStore
from tracker_server.store.store import Store
from tracker_server.store.uploads import Uploads

from .errors import ApiError, not_found
from .ingest_api import check_protocol
from .news import to_news
from .routes import Access, Call, Route
from .runs_api import RUN_PATH, get_run

FILES_PER_REQUEST = 500
#: A file is never part of our own pages: it has no origin, no scripts, and loads nothing.
CONTENT_SECURITY_POLICY = "sandbox; default-src 'none'; frame-ancestors 'none'"
#: What an <img> or <video> of our own pages may show; everything else is bytes. No SVG: it has scripts.
_MEDIA_TYPES = {
    "avif": "image/avif",
    "bmp": "image/bmp",
    "flac": "audio/flac",
    "gif": "image/gif",
    "jpeg": "image/jpeg",
    "jpg": "image/jpeg",
    "mp3": "audio/mpeg",
    "mp4": "video/mp4",
    "ogg": "video/ogg",
    "png": "image/png",
    "wav": "audio/wav",
    "webm": "video/webm",
    "webp": "image/webp",
}

Digest = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
Count = Annotated[int, Meta(ge=0, le=2**63 - 1)]


class FileTold(Struct):
    """A file as the agent found it. revision: of the version that it replaces, 0: of none."""

    path: Annotated[str, Meta(max_length=4096)]
    sha256: Digest
    size: Count
    mtime: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
    policy: Annotated[str, Meta(max_length=16)] = "live"
    revision: Count = 0


class FilesBody(Struct):
    """Files of the run that a stream writes."""

    uid: Annotated[int, Meta(ge=0, le=2**32 - 1)]
    stream: Annotated[str, Meta(pattern="^[0-9a-f]{32}$")]
    files: Annotated[list[FileTold], Meta(max_length=FILES_PER_REQUEST)]


class FileOutcome(Struct):
    """What became of one file: stored, missing (send it from `offset` on), changed or refused."""

    state: str
    revision: int
    offset: int | UnsetType = UNSET
    reason: str | UnsetType = UNSET


class FilesAnswer(Struct):
    """Outcomes in the order of the request. error: there are none, for `reason`."""

    epoch: str
    entity: str
    project: str
    run: str
    files: list[FileOutcome]
    error: str | UnsetType = UNSET
    reason: str | UnsetType = UNSET


class RunFileRow(Struct):
    """The newest version of a file."""

    path: str
    sha256: str
    size: int
    mtime: int
    policy: str
    updated: int
    machine: str
    host: str
    uid: int


class RunFilesAnswer(Struct):
    """Files by path, a page at a time; total and bytes count all."""

    files: list[RunFileRow]
    cursor: str | None
    total: int
    bytes: int


class ListQuery(Struct):
    """A page."""

    limit: Annotated[int, Meta(ge=1, le=1000)] = 1000
    cursor: Annotated[str, Meta(max_length=8000)] | None = None


class FileQuery(Struct):
    """A file; of several machines' the newest, or that of one."""

    path: Annotated[str, Meta(max_length=4096)]
    machine: Annotated[str, Meta(max_length=128)] | None = None


class FilesApi:
    """POST /files for agents, GET of a run's files for readers."""

    def __init__(
        self,
        store: Store,
        uploads: Uploads,
        epoch: str,
        reader: Lane,
        writer: Lane,
        hub: LiveHub,
        limits: LimitSettings,
        now: Callable[[], int] = time.time_ns,
    ) -> None:
        self._store = store
        self._uploads = uploads
        self._files = RunFileStore(store.database)
        self._projects = ProjectStore(store)
        self._epoch = epoch
        self._reader = reader
        self._writer = writer
        self._hub = hub
        self._bytes_max = limits.blob_bytes
        self._now = now

    def routes(self) -> list[Route]:
        """Return what this serves."""
        return [
            Route(
                "POST",
                "/api/v1/files",
                Access.INGEST,
                self.tell,
                "Say which files a run has; learn which contents are missing",
                FilesAnswer,
                body=FilesBody,
            ),
            Route(
                "GET",
                RUN_PATH + "/files",
                Access.READ,
                self.list,
                "List a run's files",
                RunFilesAnswer,
                query=ListQuery,
            ),
            Route(
                "GET",
                RUN_PATH + "/file",
                Access.READ,
                self.download,
                "Fetch a file of a run, in whole or a range of its bytes",
                None,
                query=FileQuery,
                media_type="application/octet-stream",
            ),
        ]

    async def tell(self, call: Call[Any, FilesBody]) -> FilesAnswer:
        """Set what can be set, and answer for each file."""
        check_protocol(call.request)
        body, principal = call.body, call.principal
        told = [
            Told(each.path, each.sha256, each.size, each.mtime, each.policy, each.revision)
            for each in body.files
        ]
        done = await self._writer.run(
            set_files,
            self._store,
            self._uploads,
            principal,
            body.uid,
            bytes.fromhex(body.stream),
            told,
            self._now(),
            self._bytes_max,
        )
        for news in done.news:
            self._hub.publish(to_news(news))
        answer = FilesAnswer(
            self._epoch, principal.entity, done.project, done.run, [_outcome(each) for each in done.outcomes]
        )
        if done.error is not None:
            answer.error, answer.reason = done.error, done.reason
        return answer

    async def list(self, call: Call[ListQuery, None]) -> RunFilesAnswer:
        """List files by path."""
        return await self._reader.run(self._read_list, call)

    def _read_list(self, call: Call[ListQuery, None]) -> RunFilesAnswer:
        run = get_run(self._store, call)
        try:
            page = self._files.list(run.id, call.query.limit, call.query.cursor)
        except ValueError as error:
            raise ApiError(400, "bad_parameter", f"cursor: {error}") from error
        files = [
            RunFileRow(
                each.path, each.sha256, each.size, each.mtime, each.policy, each.updated,
                each.machine, each.host, each.uid,
            )
            for each in page.files
        ]  # fmt: skip
        return RunFilesAnswer(files, page.cursor, page.total, page.bytes)

    async def download(self, call: Call[FileQuery, None]) -> web.StreamResponse:
        """Answer with a file's bytes; aiohttp sees to ranges and conditions."""
        file, project_id = await self._reader.run(self._find, call)
        blobs = self._store.blobs
        if await self._reader.run(blobs.size, project_id, file.sha256) is None:
            raise not_found("file")
        return web.FileResponse(blobs.path(project_id, file.sha256), headers=_headers(file))

    def _find(self, call: Call[FileQuery, None]) -> tuple[RunFile, int]:
        run = get_run(self._store, call)
        project_id = self._projects.try_id(call.principal.entity_id, run.project)
        assert project_id is not None
        return self._files.find(run.id, call.query.path, call.query.machine), project_id


def _headers(file: RunFile) -> dict[str, str]:
    name = file.path.rpartition("/")[2]
    plain = "".join(c if c.isascii() and c.isprintable() and c not in '"\\%;' else "_" for c in name)
    extension = name.rpartition(".")[2].lower()
    return {
        "Content-Type": _MEDIA_TYPES.get(extension, "application/octet-stream"),
        "Content-Disposition": f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}",
        "Content-Security-Policy": CONTENT_SECURITY_POLICY,
        "Cache-Control": "private, no-cache",
        "X-Tracker-SHA256": file.sha256,
    }


def _outcome(each: Outcome) -> FileOutcome:
    outcome = FileOutcome(each.state, each.revision)
    if each.state == "missing":
        outcome.offset = each.offset
    if each.reason:
        outcome.reason = each.reason
    return outcome
