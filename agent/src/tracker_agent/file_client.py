"""What a lane of files asks of a server, with one key: to hear of files, and to take parts of their bytes.

Answers that say nothing about a file become Unavailable or LockedOut, as with records. The endpoint does not
hear of them: records find out for themselves, and never wait because files are in trouble.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from .answers import Locked, Rejected, Retry, Server, TooLarge, parse_failure, parse_server
from .clock import Clock
from .endpoint import Endpoint
from .exchange import Answer, TransportError
from .file_tree import Signature
from .ingest_client import LockedOut
from .run_files import Destination

CAPABILITY = "files"
STATES = ("stored", "missing", "changed", "refused")


class FilesUnavailable(Exception):
    """The server cannot take files now: try again, for ever."""

    def __init__(self, reason: str, retry_after_s: float | None = None, timed_out: bool = False) -> None:
        super().__init__(reason)
        self.retry_after_s = retry_after_s
        self.timed_out = timed_out


class PartTooLarge(Exception):
    """The server, or something before it, takes no part of this size."""


@dataclass(frozen=True, slots=True)
class ToldFile:
    """A version of a file, and the server's number of the one it replaces."""

    path: str
    digest: str
    signature: Signature
    revision: int


@dataclass(frozen=True, slots=True)
class FileOutcome:
    """What the server says of one file; docs/protocol.md has the states."""

    state: str
    revision: int
    offset: int
    reason: str


@dataclass(frozen=True, slots=True)
class ToldAnswer:
    """The server's answer about a run's files. error: it says nothing about any of them."""

    epoch: str
    destination: Destination
    outcomes: list[FileOutcome]
    error: str | None
    reason: str


@dataclass(frozen=True, slots=True)
class PartAnswer:
    """Where an upload goes on; done: all of it is there. wrong: why none of it is of use."""

    offset: int
    done: bool
    wrong: str = ""
    refused: bool = False  #: no use to try again with this content


class FileClient:
    """A server as one key sees it."""

    def __init__(self, key: str | None, endpoint: Endpoint, clock: Clock) -> None:
        self._key = key
        self._endpoint = endpoint
        self._clock = clock

    async def is_offered(self) -> bool:
        """Ask whether the server takes files by now. It may have been replaced by a newer one."""
        server = parse_server(await self._request("GET", "/api/v1/server", {}, None), self._wall_s())
        if isinstance(server, Server):
            return CAPABILITY in server.capabilities
        self._raise(server)
        return False

    async def tell(self, uid: int, stream: bytes, files: Sequence[ToldFile]) -> ToldAnswer | TooLarge:
        """Tell of files of the run that a stream writes."""
        asked = {
            "uid": uid,
            "stream": stream.hex(),
            "files": [
                {
                    "path": each.path,
                    "sha256": each.digest,
                    "size": each.signature.size,
                    "mtime": each.signature.mtime_ns,
                    "revision": each.revision,
                }
                for each in files
            ],
        }
        answer = await self._request(
            "POST", "/api/v1/files", {"Content-Type": "application/json"}, json.dumps(asked).encode()
        )
        failure = parse_failure(answer, self._wall_s())
        if isinstance(failure, TooLarge):
            return failure
        self._raise(failure)
        try:
            told = _told(json.loads(answer.body))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise FilesUnavailable(
                f"{answer.status} with a body that is no answer about files: {error}"
            ) from error
        if told.error is None and len(told.outcomes) != len(files):
            raise FilesUnavailable(f"an answer about {len(told.outcomes)} of {len(files)} files")
        return told

    async def send(
        self, destination: Destination, digest: str, offset: int, size: int, part: bytes
    ) -> PartAnswer:
        """Send a part of a file's bytes. Raise PartTooLarge."""
        entity, project = quote(destination.entity, safe=""), quote(destination.project, safe="")
        path = f"/api/v1/projects/{entity}/{project}/blobs/{digest}"
        headers = {
            "Content-Type": "application/octet-stream",
            "X-Tracker-Offset": str(offset),
            "X-Tracker-Size": str(size),
        }
        answer = await self._request("PATCH", path, headers, part)
        if answer.status == 409:
            return PartAnswer(self._offset(answer, size), False)
        failure = parse_failure(answer, self._wall_s())
        if isinstance(failure, TooLarge):
            raise PartTooLarge(failure.reason)
        if isinstance(failure, Rejected) and answer.status == 422:
            return PartAnswer(0, False, failure.reason, refused=_code(answer) != "wrong_digest")
        self._raise(failure)
        try:
            fields = json.loads(answer.body)
            done = fields["done"]
            if type(done) is not bool:
                raise ValueError("done is neither true nor false")
            following = _count(fields["offset"])
        except (ValueError, KeyError, TypeError) as error:
            raise FilesUnavailable(
                f"{answer.status} with a body that is no answer to a part: {error}"
            ) from error
        if following > size or (done and following != size):
            raise FilesUnavailable(f"the server has {following} bytes of a file of {size}")
        return PartAnswer(following, done)

    def _offset(self, answer: Answer, size: int) -> int:
        text = answer.headers.get("x-tracker-offset", "")
        if not (text.isascii() and text.isdecimal() and int(text[:19]) <= size):
            raise FilesUnavailable("409 that does not say where the upload goes on")
        return int(text)

    async def _request(self, method: str, path: str, headers: dict[str, str], body: bytes | None) -> Answer:
        if self._key is None:
            raise LockedOut("no key: set server.key or server.key_file, or leave a key in the spool")
        if method != "GET":
            headers["Authorization"] = f"Bearer {self._key}"
        try:
            return await self._endpoint.request(method, path, headers, body)
        except TransportError as error:
            raise FilesUnavailable(str(error), timed_out=isinstance(error.__cause__, TimeoutError)) from error

    def _raise(self, failure: Retry | Locked | TooLarge | Rejected | None) -> None:
        if isinstance(failure, Locked):
            raise LockedOut(failure.reason)
        if isinstance(failure, Retry):
            raise FilesUnavailable(failure.reason, failure.retry_after_s)
        if failure is not None:
            raise FilesUnavailable(failure.reason)

    def _wall_s(self) -> float:
        return self._clock.wall_ns() / 1e9


def _told(fields: Any) -> ToldAnswer:
    error = fields.get("error")
    return ToldAnswer(
        _text(fields["epoch"]),
        Destination(_text(fields["entity"]), _text(fields["project"])),
        [_outcome(each) for each in fields["files"]],
        None if error is None else _text(error),
        str(fields.get("reason") or "")[:500],
    )


def _outcome(fields: Any) -> FileOutcome:
    state = fields["state"]
    if state not in STATES:
        raise ValueError(f"the state {ascii(state)[:40]} is none of {', '.join(STATES)}")
    return FileOutcome(
        state,
        _count(fields["revision"]),
        _count(fields.get("offset", 0)),
        str(fields.get("reason") or "")[:500],
    )


def _count(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise ValueError("something that should be a number is none")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("something that should be a text is none")  # noqa: TRY004
    return value


def _code(answer: Answer) -> str:
    try:
        return str(json.loads(answer.body)["error"])
    except (ValueError, KeyError, TypeError):
        return ""
