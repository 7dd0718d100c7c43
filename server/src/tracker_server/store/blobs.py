"""BlobDirectory: files by SHA-256 in a directory, asked for and stored within one project."""

import errno
import hashlib
import os
import re
from collections.abc import Iterable
from pathlib import Path

from .errors import StoreError, StoreFull, StoreUnavailable

_SHA256 = re.compile(r"[0-9a-f]{64}\Z")
_READ_BYTES = 1 << 20


class BlobMismatch(StoreError):
    """The bytes that came have another digest than was announced."""


class BlobDirectory:
    """Blobs lie at <root>/<project id>/<first two digits>/<digest>; a name that exists is whole.

    What is not whole yet lies in <root>/uploads.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.unfinished = root / "uploads"
        self.reserve_bytes = 0  #: stays free for what is no file: records come first

    def size(self, project_id: int, sha256: str) -> int | None:
        """Return the length of a blob, or None when there is none."""
        try:
            return self._path(project_id, sha256).stat().st_size
        except FileNotFoundError:
            return None

    def path(self, project_id: int, sha256: str) -> Path:
        """Return where a blob lies, if there is one; its bytes never change."""
        return self._path(project_id, sha256)

    def read(self, project_id: int, sha256: str) -> Iterable[bytes]:
        """Yield the bytes of a blob in blocks. Raise FileNotFoundError when there is none."""
        with self._path(project_id, sha256).open("rb") as file:
            while block := file.read(_READ_BYTES):
                yield block

    def check_room(self, size: int) -> None:
        """Raise StoreFull when that many bytes more would leave less free than must stay so."""
        try:
            disk = os.statvfs(self.root if self.root.exists() else self.root.parent)
        except OSError as error:
            raise StoreUnavailable("%s cannot be asked for room: %s" % (self.root, error)) from error
        if disk.f_bavail * disk.f_frsize < size + self.reserve_bytes:
            raise StoreFull("the disk of %s has no room for %d bytes more" % (self.root, size))

    def adopt(self, file: Path, project_id: int, sha256: str) -> None:
        """Make a file of the same disk, whose digest was checked, a blob. Raise OSError."""
        path = self._path(project_id, sha256)
        _ensure_directory(path.parent, self.root)
        fd = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
        file.replace(path)
        _sync_directory(path.parent)

    def put(self, project_id: int, sha256: str, blocks: Iterable[bytes]) -> int:
        """Store a blob and return its length once it is on disk. Raise BlobMismatch on other bytes."""
        path = self._path(project_id, sha256)
        temporary = self.unfinished / (".%s.%s" % (sha256, os.urandom(8).hex()))
        digest = hashlib.sha256()
        size = 0
        try:
            _ensure_directory(path.parent, self.root)
            self.unfinished.mkdir(exist_ok=True)
            with temporary.open("xb") as file:
                for block in blocks:
                    digest.update(block)
                    size += len(block)
                    file.write(block)
                if digest.hexdigest() != sha256:
                    raise BlobMismatch("the bytes have SHA-256 %s, not %s" % (digest.hexdigest(), sha256))
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
            _sync_directory(path.parent)
        except OSError as error:
            raise as_store_error(error, "blob %s" % sha256, self.root) from error
        finally:
            temporary.unlink(missing_ok=True)
        return size

    def _path(self, project_id: int, sha256: str) -> Path:
        if not _SHA256.match(sha256):
            raise ValueError("a digest has 64 lower-case hex digits")
        return self.root / str(int(project_id)) / sha256[:2] / sha256


def as_store_error(error: OSError, what: str, root: Path) -> StoreError:
    """Return what an error of the disk means for the caller."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StoreFull("the disk of %s is full" % root)
    return StoreUnavailable("%s cannot be stored: %s" % (what, error))


def _ensure_directory(path: Path, root: Path) -> None:
    """Make a directory below root, and have its name on disk before anything is put into it."""
    if path == root:
        path.mkdir(parents=True, exist_ok=True)
    elif not path.is_dir():
        _ensure_directory(path.parent, root)
        path.mkdir(exist_ok=True)
        _sync_directory(path.parent)


def _sync_directory(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
