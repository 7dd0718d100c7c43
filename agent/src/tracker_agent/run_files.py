"""What is known of one run's files, and what is to be done next about each. No disk, no server, no clock.

A file has one version on its way at most:

    seen → (quiet for a while) → hashed → told → missing → sent → told → stored
                                             └── stored: the project had the bytes already

What changes meanwhile is seen by the next walk, and becomes the next version when this one is through.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass, field

from .file_tree import FileTree, Signature
from .opening import Place

#: A file that has not changed for so long is taken for whole.
SETTLE_S = 2.0
#: A file that keeps changing while its run lives is sent this often at most.
LIVE_S = 30.0
#: A file that is never quiet is sent as it stands after this long.
UNSETTLED_S = 60.0
#: Failures of one file in a row make it wait longer and longer, up to this.
TROUBLE_MAX_S = 300.0
STREAMS_MAX = 16
REFUSED_MAX = 1000


class Stage(enum.Enum):
    """How far a version is."""

    TELL = "tell"  #: its digest is known: the server is to hear of it
    SEND = "send"  #: the server lacks the bytes
    STORED = "stored"
    REFUSED = "refused"


@dataclass(eq=False, slots=True)
class Version:
    """The content of a file at one time."""

    signature: Signature
    digest: str
    stage: Stage = Stage.TELL
    offset: int = 0  #: what the server has of the bytes
    sent: int = 0  #: bytes
    told: int = 0  #: how often


@dataclass(eq=False, slots=True)
class File:
    """One path of a run."""

    path: str
    signature: Signature  #: as last seen
    changed_at: float
    waiting_since: float  #: since when the newest content is not on its way
    version: Version | None = None  #: on its way, or the last one that arrived
    stored_at: float | None = None
    revision: int = 0  #: as the server counts
    troubles: int = 0
    retry_at: float = 0.0
    reason: str = ""  #: why it could not be read when it was last tried
    gone: bool = False

    @property
    def in_flight(self) -> bool:
        """Whether a version is on its way."""
        return self.version is not None and self.version.stage in (Stage.TELL, Stage.SEND)

    @property
    def up_to_date(self) -> bool:
        """Whether nothing is left to do about what was last seen."""
        return self.version is not None and not self.in_flight and self.version.signature == self.signature

    def trouble(self, now: float) -> None:
        """Put a file off after something went wrong with it."""
        self.troubles += 1
        self.retry_at = now + min(TROUBLE_MAX_S, 2.0 ** min(self.troubles, 10))


@dataclass(frozen=True, slots=True)
class Destination:
    """Where the server keeps a run's files."""

    entity: str
    project: str


@dataclass(frozen=True, slots=True)
class Lost:
    """A file whose newest content is gone before the server had it."""

    path: str
    bytes: int


@dataclass(eq=False, slots=True)
class RunFiles:
    """The files of one run directory."""

    place: Place
    streams: list[bytes] = field(default_factory=list)  #: any of them names the run to the server
    files: dict[str, File] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)  #: path → why it is not sent
    destination: Destination | None = None  #: as the server said
    ended: bool = False
    done: bool = False  #: ended, and the server has all that may be sent
    walk_at: float = 0.0
    tell_at: float = 0.0  #: the server is not told before
    unknown: int = 0  #: answers in a row that it does not know the run yet
    reason: str = ""  #: why nothing is sent now
    unread: bool = False  #: some files may have to be read
    stored_files: int = 0
    stored_bytes: int = 0

    @property
    def stream(self) -> bytes:
        """The stream that names the run."""
        return self.streams[0]

    def see_stream(self, stream: bytes) -> None:
        """Note another writer of the run."""
        if stream not in self.streams and len(self.streams) < STREAMS_MAX:
            self.streams.append(stream)

    def try_another_stream(self) -> None:
        """Name the run by another of its streams from now on."""
        self.streams.append(self.streams.pop(0))

    def see(self, tree: FileTree, now: float, wall_ns: int = 0) -> list[Lost]:
        """Take what a walk found, and return what is gone for good.

        wall_ns: the time by the clock that files are stamped with; what is old by that clock is quiet.
        """
        settled = self.ended and all(file.up_to_date or file.gone for file in self.files.values())
        renamed = {(each.device, each.inode) for each in tree.files.values()}
        changed = False
        for path, signature in tree.files.items():
            file = self.files.get(path)
            if file is None:
                quiet_s = (wall_ns - max(signature.mtime_ns, signature.ctime_ns)) / 1e9
                changed_at = now - SETTLE_S if quiet_s > SETTLE_S else now
                self.files[path] = File(path, signature, changed_at, now)
                changed = self.unread = True
            else:
                file.gone = False
                if file.signature != signature:
                    changed = self.unread = True
                    if file.up_to_date:
                        file.waiting_since = now
                    file.signature, file.changed_at = signature, now
        lost = []
        for path in [path for path in self.files if path not in tree.files]:
            file = self.files[path]
            if file.in_flight:
                file.gone = True  # its descriptor may still be open, or the server may have the bytes
                continue
            if not file.up_to_date and (file.signature.device, file.signature.inode) not in renamed:
                lost.append(Lost(path, file.signature.size))
            del self.files[path]
        for path, reason in tree.refused.items():
            if path in self.refused or len(self.refused) < REFUSED_MAX:
                self.refused[path] = reason
        self.done = (
            settled and not changed and not lost and not any(file.gone for file in self.files.values())
        )
        return lost

    def to_hash(self, now: float) -> Iterator[File]:
        """Yield the files whose content is to be read now."""
        if self.unread:
            waiting = [each for each in self.files.values() if not each.in_flight and not each.up_to_date]
            self.unread = bool(waiting)
            yield from (file for file in waiting if now >= self.hash_at(file))

    def hash_at(self, file: File) -> float:
        """Return when a file's content may be read."""
        at = min(file.changed_at + SETTLE_S, file.waiting_since + UNSETTLED_S)
        if file.stored_at is not None and not self.ended:
            at = max(at, file.stored_at + LIVE_S)
        return max(at, file.retry_at)

    def hashed(self, file: File, signature: Signature, digest: str) -> None:
        """Put a version on its way."""
        file.reason = ""
        file.version = Version(signature, digest)

    def to_tell(self, now: float) -> Iterator[File]:
        """Yield the files that the server is to hear of."""
        yield from self._at(Stage.TELL, now)

    def to_send(self, now: float) -> Iterator[File]:
        """Yield the files whose bytes the server lacks."""
        yield from self._at(Stage.SEND, now)

    def _at(self, stage: Stage, now: float) -> Iterator[File]:
        for file in self.files.values():
            if file.version is not None and file.version.stage is stage and file.retry_at <= now:
                yield file

    def stored(self, file: File, revision: int, now: float) -> None:
        """Note that the server has a file's version."""
        assert file.version is not None
        file.version.stage = Stage.STORED
        file.revision, file.stored_at = revision, now
        file.troubles, file.retry_at = 0, 0.0
        self.stored_files += 1
        self.stored_bytes += file.version.signature.size
        self._through(file, now)

    def set_aside(self, file: File, reason: str, now: float) -> None:
        """Note that a version will never be taken."""
        assert file.version is not None
        file.version.stage = Stage.REFUSED
        if len(self.refused) < REFUSED_MAX:
            self.refused[file.path] = reason
        self._through(file, now)

    def begin_again(self, file: File, now: float) -> None:
        """Forget a version that is not what the file holds any more: read it anew."""
        file.version = None
        file.changed_at = now
        self.unread = True
        file.trouble(now)

    def drop(self, file: File) -> None:
        """Forget a file that is gone."""
        self.files.pop(file.path, None)

    def _through(self, file: File, now: float) -> None:
        if file.gone:
            self.drop(file)
        elif not file.up_to_date:
            file.waiting_since = now
            self.unread = True

    def look_again_if_through(self, now: float) -> None:
        """Have a run that has ended walked once more when all is sent, for what changed meanwhile."""
        if self.ended and all(each.up_to_date for each in self.files.values()):
            self.walk_at = now

    def tell_all_again(self) -> None:
        """Forget what the server has: it was restored, or it is another one."""
        self.done = False
        self.walk_at = 0.0
        self.stored_files = self.stored_bytes = 0
        for file in self.files.values():
            file.revision = 0
            if file.version is not None and file.version.stage is Stage.STORED:
                file.version.stage = Stage.TELL

    def close(self) -> None:
        """Keep only the counts: a done run may stand here for days."""
        self.files.clear()

    @property
    def pending(self) -> list[File]:
        """The files that the server does not have in their newest version."""
        return [file for file in self.files.values() if not file.up_to_date]
