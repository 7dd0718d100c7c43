"""Uploads: files that have arrived in part. Each is appended to at its end only, until its digest is right.

An upload belongs to one principal, project and digest, so nobody learns or spoils what another one has
begun. Nothing counts before all of it is there and has the digest: until then it may be thrown away.
"""

from __future__ import annotations

import hashlib
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from .blobs import BlobDirectory, BlobMismatch, as_store_error
from .errors import StoreError, StoreUnavailable

_NAME = re.compile(r"([0-9]+)-([0-9]+)-([0-9a-f]{64})\Z")
_READ_BYTES = 1 << 20
#: What would be thrown away otherwise; an agent comes back within days or begins anew.
KEEP_S = 7 * 86400.0


class WrongOffset(StoreError):
    """A part does not begin where the upload ends."""

    def __init__(self, offset: int) -> None:
        super().__init__("the upload goes on at %d" % offset)
        self.offset = offset


class Key(NamedTuple):
    """Whose upload of what."""

    principal_id: int
    project_id: int
    sha256: str


@dataclass(frozen=True)
class UploadLimits:
    """Bounds on unfinished uploads."""

    count: int
    count_per_principal: int
    bytes: int
    bytes_per_principal: int


@dataclass
class _Upload:
    size: int
    touched: float
    busy: bool = False
    digest: Any = None  # of the first `size` bytes; None: not known, they are read again at the end


class Uploads:
    """Unfinished uploads in a directory. Methods may be called from several threads."""

    def __init__(
        self, blobs: BlobDirectory, limits: UploadLimits, clock: Callable[[], float] = time.time
    ) -> None:
        self._blobs = blobs
        self._root = blobs.unfinished
        self._limits = limits
        self._clock = clock
        self._lock = threading.Lock()
        self._uploads = dict(self._found())

    def offset(self, key: Key) -> int:
        """Return how much of an upload is there."""
        with self._lock:
            upload = self._uploads.get(key)
            return 0 if upload is None else upload.size

    def append(self, key: Key, offset: int, size: int, part: bytes) -> int:
        """Add a part; return how much is there. All `size` bytes there: the project has the file.

        Raise WrongOffset, BlobMismatch (and forget the upload), StoreFull or StoreUnavailable.
        """
        there = self._blobs.size(key.project_id, key.sha256)
        if there is not None:
            self._forget(key)
            return there
        if offset + len(part) > size:
            raise WrongOffset(self.offset(key))
        with self._claim(key, offset, len(part)) as upload:
            self._blobs.check_room(size - offset)
            self._write(key, upload, part)
            if upload.size == size:
                self._finish(key, upload)
            return upload.size

    def _write(self, key: Key, upload: _Upload, part: bytes) -> None:
        path = self._path(key)
        try:
            self._root.mkdir(parents=True, exist_ok=True)
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                # Whatever lies behind the part before is from a write that failed halfway.
                os.ftruncate(fd, upload.size)
                written = 0
                while written < len(part):
                    written += os.pwrite(fd, memoryview(part)[written:], upload.size + written)
            except OSError:
                os.ftruncate(fd, upload.size)
                raise
            finally:
                os.close(fd)
        except OSError as error:
            raise as_store_error(error, "the upload of %s" % key.sha256, self._root) from error
        if upload.size == 0:
            upload.digest = hashlib.sha256()
        if upload.digest is not None:
            upload.digest.update(part)
        upload.size += len(part)
        upload.touched = self._clock()

    def _finish(self, key: Key, upload: _Upload) -> None:
        path = self._path(key)
        try:
            digest = upload.digest or _digest_of(path)
            if digest.hexdigest() != key.sha256:
                path.unlink()
                raise BlobMismatch("the bytes have SHA-256 %s, not %s" % (digest.hexdigest(), key.sha256))
            self._blobs.adopt(path, key.project_id, key.sha256)
        except OSError as error:
            raise as_store_error(error, "the upload of %s" % key.sha256, self._root) from error
        finally:
            if not path.exists():
                with self._lock:
                    del self._uploads[key]

    @contextmanager
    def _claim(self, key: Key, offset: int, more: int) -> Iterator[_Upload]:
        """Lend an upload that ends at `offset` to one caller, within the limits."""
        with self._lock:
            self._drop_old()
            upload = self._uploads.get(key)
            if offset != (0 if upload is None else upload.size):
                raise WrongOffset(0 if upload is None else upload.size)
            if upload is not None and upload.busy:
                raise StoreUnavailable("another part of %s is being written" % key.sha256)
            self._make_room(key, more, new=upload is None)
            if upload is None:
                upload = self._uploads[key] = _Upload(0, self._clock())
            upload.busy = True
        try:
            yield upload
        finally:
            with self._lock:
                upload.busy = False
                if upload.size == 0 and self._uploads.get(key) is upload:
                    del self._uploads[key]

    def _make_room(self, key: Key, more: int, new: bool) -> None:
        """Give up a principal's own oldest uploads for its newest; nobody else's."""
        limits, own = self._limits, key.principal_id
        mine = {each: upload for each, upload in self._uploads.items() if each.principal_id == own}
        idle = sorted(
            (each for each, upload in mine.items() if not upload.busy and each != key),
            key=lambda each: mine[each].touched,
        )
        while idle and (
            len(mine) + new > limits.count_per_principal
            or sum(upload.size for upload in mine.values()) + more > limits.bytes_per_principal
        ):
            del mine[idle[0]]
            self._remove(idle.pop(0))
        everything = sum(upload.size for upload in self._uploads.values())
        if len(self._uploads) + new > limits.count or everything + more > limits.bytes:
            raise StoreUnavailable("as many uploads are unfinished as may be")

    def _drop_old(self) -> None:
        oldest = self._clock() - KEEP_S
        for key in [key for key, each in self._uploads.items() if each.touched < oldest and not each.busy]:
            self._remove(key)

    def _forget(self, key: Key) -> None:
        with self._lock:
            upload = self._uploads.get(key)
            if upload is not None and not upload.busy:
                self._remove(key)

    def _remove(self, key: Key) -> None:
        del self._uploads[key]
        self._path(key).unlink(missing_ok=True)

    def _path(self, key: Key) -> Path:
        return self._root / ("%d-%d-%s" % key)

    def _found(self) -> Iterator[tuple[Key, _Upload]]:
        """Yield what an earlier server left behind, and remove what nobody can go on with."""
        if not self._root.is_dir():
            return
        for path in self._root.iterdir():
            match = _NAME.match(path.name)
            if match is None:
                path.unlink()
            else:
                status = path.stat()
                key = Key(int(match[1]), int(match[2]), match[3])
                yield key, _Upload(status.st_size, status.st_mtime)


def _digest_of(path: Path) -> Any:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_READ_BYTES):
            digest.update(block)
    return digest
