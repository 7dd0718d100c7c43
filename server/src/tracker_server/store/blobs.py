"""BlobDirectory: files by SHA-256 in a directory, asked for and stored within one project."""

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
    """Blobs lie at <root>/<project id>/<first two digits>/<digest>; a name that exists is whole."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def size(self, project_id: int, sha256: str) -> int | None:
        """Return the length of a blob, or None when there is none."""
        try:
            return self._path(project_id, sha256).stat().st_size
        except FileNotFoundError:
            return None

    def read(self, project_id: int, sha256: str) -> Iterable[bytes]:
        """Yield the bytes of a blob in blocks. Raise FileNotFoundError when there is none."""
        with self._path(project_id, sha256).open("rb") as file:
            while block := file.read(_READ_BYTES):
                yield block

    def put(self, project_id: int, sha256: str, blocks: Iterable[bytes]) -> int:
        """Store a blob and return its length once it is on disk. Raise BlobMismatch on other bytes."""
        path = self._path(project_id, sha256)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(".%s.%s" % (sha256, os.urandom(8).hex()))
        digest = hashlib.sha256()
        size = 0
        try:
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
            if error.errno == 28:
                raise StoreFull("the disk of %s is full" % self.root) from error
            raise StoreUnavailable("blob %s cannot be stored: %s" % (sha256, error)) from error
        finally:
            temporary.unlink(missing_ok=True)
        return size

    def _path(self, project_id: int, sha256: str) -> Path:
        if not _SHA256.match(sha256):
            raise ValueError("a digest has 64 lower-case hex digits")
        return self.root / str(int(project_id)) / sha256[:2] / sha256


def _sync_directory(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
