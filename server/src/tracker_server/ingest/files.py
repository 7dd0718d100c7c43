"""Which files a run has: decides about each that an agent tells of, in one transaction.

A file is set only when its project holds the bytes, and only by someone who names the version before, so
that a request that comes late or twice never puts an older version in the place of a newer one.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from ..principal import Principal
from ..store.host_rows import stored_machine
from ..store.run_files import RunFile, RunFileRows, Source
from ..store.store import Store
from ..store.uploads import Key, Uploads
from .commit import RunNews
from .position import RefusedError
from .writer import Writer

FILES_PER_RUN_MAX = 100_000
PATH_BYTES_MAX = 1024
PATH_DEPTH_MAX = 32
#: Control characters, lone surrogates, line and paragraph separators.
_FORBIDDEN = frozenset(("Cc", "Cs", "Zl", "Zp"))
#: Signs that turn the direction of text: a name could look like another one.
_TURNING = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


@dataclass(frozen=True)
class Told:
    """A file as an agent found it. revision: of the version the agent means to replace, 0 for none."""

    path: str
    sha256: str
    size: int
    mtime: int
    policy: str
    revision: int


@dataclass(frozen=True)
class Outcome:
    """What became of it.

    stored: the run has this version. missing: send the bytes, from `offset` on, and tell again.
    changed: another version is there, tell again with its revision. refused: never, for `reason`.
    """

    state: Literal["stored", "missing", "changed", "refused"]
    revision: int = 0
    offset: int = 0
    reason: str = ""


@dataclass
class FilesSet:
    """The answer to one request. error: nothing was set, for `reason`."""

    project: str = ""
    run: str = ""
    outcomes: list[Outcome] = field(default_factory=list)
    news: list[RunNews] = field(default_factory=list)
    error: str | None = None
    reason: str = ""


def set_files(
    store: Store,
    uploads: Uploads,
    principal: Principal,
    uid: int,
    stream: bytes,
    files: Sequence[Told],
    now: int,
    bytes_max: int,
) -> FilesSet:
    """Set the files of the run that a stream belongs to."""
    answer = FilesSet()
    with store.transaction() as transaction:
        writer = Writer(transaction, principal, now)
        try:
            found = writer.run_of(uid, stream)
        except RefusedError as error:
            return FilesSet(error=error.code, reason=error.reason)
        if found is None:
            return FilesSet(error="unknown", reason="no record of this stream has arrived yet")
        run, header = found
        answer.project, answer.run = run.project, run.run
        project_id = transaction.runs.ensure_project(principal.entity_id, run.project, now)
        source = Source(run.id, stored_machine(header.machine), uid, header.host)
        setting = _Setting(
            transaction.files,
            source,
            now,
            bytes_max,
            lambda sha256: store.blobs.size(project_id, sha256),
            lambda sha256: uploads.offset(Key(principal.id, project_id, sha256)),
        )
        answer.outcomes = [setting.decide(file) for file in files]
        if setting.changed:
            writer.touch_run(run.id)
            answer.news = [
                RunNews(principal.entity, row.project, row.run, row.cursor, row.state, row.updated)
                for row in writer.changed_runs()
            ]
    return answer


class _Setting:
    """One request's files of one source."""

    def __init__(
        self,
        rows: RunFileRows,
        source: Source,
        now: int,
        bytes_max: int,
        size_of: Callable[[str], int | None],
        uploaded: Callable[[str], int],
    ) -> None:
        self.changed = False
        self._rows = rows
        self._source = source
        self._now = now
        self._bytes_max = bytes_max
        self._size_of = size_of
        self._uploaded = uploaded
        self._count: int | None = None

    def decide(self, told: Told) -> Outcome:
        reason = refusal(told.path)
        if reason is None and told.size > self._bytes_max:
            reason = f"a file has at most {self._bytes_max} bytes"
        if reason is not None:
            return Outcome("refused", reason=reason)
        row = self._rows.find(self._source, told.path)
        revision = 0 if row is None else row.revision
        if row is None and self._is_full():
            return Outcome("refused", reason=f"a run has at most {FILES_PER_RUN_MAX} files")
        size = self._size_of(told.sha256)
        if size is None:
            return Outcome("missing", revision, self._uploaded(told.sha256))
        if size != told.size:
            return Outcome("refused", revision, reason=f"the content of that digest has {size} bytes")
        if row is not None and row.sha256 == told.sha256:
            if told.revision == revision and (row.mtime, row.policy) != (told.mtime, told.policy):
                self._rows.set(self._source, replace(row, mtime=told.mtime, policy=told.policy))
            return Outcome("stored", revision)
        if told.revision != revision:
            return Outcome("changed", revision)
        self._rows.set(
            self._source,
            RunFile(
                told.path, told.sha256, told.size, told.mtime, told.policy, revision + 1, self._now,
                self._source.machine, self._source.host, self._source.uid,
            ),
        )  # fmt: skip
        self.changed = True
        if row is None and self._count is not None:
            self._count += 1
        return Outcome("stored", revision + 1)

    def _is_full(self) -> bool:
        if self._count is None:
            self._count = self._rows.count(self._source.run_id)
        return self._count >= FILES_PER_RUN_MAX


def refusal(path: str) -> str | None:
    """Return why a file of a run cannot have this path, or None: it can.

    Paths are compared as they are: neither case nor Unicode's forms are folded.
    """
    parts = path.split("/")
    if len(path.encode("utf-8", "surrogatepass")) > PATH_BYTES_MAX:
        return f"a path has at most {PATH_BYTES_MAX} bytes"
    if len(parts) > PATH_DEPTH_MAX:
        return f"a path has at most {PATH_DEPTH_MAX} parts"
    if any(part in ("", ".", "..") for part in parts):
        return "a path is relative and has no empty part, . or .."
    if any(character in _TURNING or unicodedata.category(character) in _FORBIDDEN for character in path):
        return "a path has no control characters"
    return None


__all__ = ["FilesSet", "Outcome", "Told", "refusal", "set_files"]
