"""The files of rich values: written beside the run's streams, under names that say what is in them.

<run directory>/media/<kind>/<name>_<step>_<first 20 digits of the SHA-256>.<extension>. A file gets that
name when it is whole; until then it has one that the agent passes over.
"""

import errno
import hashlib
import os
import stat
import sys
from typing import Any, Dict, Iterable, Iterator, List, Optional

from .._names import random_id
from .._values import UnsupportedError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

#: Encoded data of more bytes goes into a file, for the kinds that may be in the record itself.
INLINE_BYTES_MAX = 32 * 1024
#: Read and hashed at a time.
BLOCK_BYTES = 1024 * 1024
NAME_CHARACTERS_MAX = 64
EXTENSION_CHARACTERS_MAX = 10
#: Digits of the digest in a file's name: 80 bits.
DIGEST_DIGITS = 20
#: Rich values within rich values, such as a table in a cell of a table.
DEPTH_MAX = 8

_DIRECTORY_MODE = 0o770
_FILE_MODE = 0o660
#: What the agent takes for a file that is still being written.
_UNFINISHED_PREFIX = ".tracker-"
_NAME_SAFE = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._")
_EXTENSION_SAFE = frozenset("abcdefghijklmnopqrstuvwxyz0123456789")
_BINARY = getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | _BINARY | getattr(os, "O_NOFOLLOW", 0)
#: Linux: make one file share another's blocks.
_FICLONE = 0x40049409


class StorageError(Exception):
    """A file could not be written. The OSError behind it is its cause."""

    def __init__(self, error: OSError, path: str) -> None:
        self.error = error
        super().__init__("%s cannot be written: %s" % (path, error.strerror or error))


class Media:
    """Where the files of one logged value go."""

    def __init__(self, directory: str, name: str, step: int) -> None:
        """directory: the run's; "" where it has none. name and step: those of the value, for people."""
        self._directory = directory
        self._label = "%s_%d" % (safe_name(name), step)
        self._open: List[int] = []

    def within(self, value: object) -> "_Within":
        """Return a context in which value is being encoded. Entering raises UnsupportedError on a cycle."""
        return _Within(self._open, value)

    def write(self, kind: str, extension: str, blocks: Iterable[Any]) -> Dict[str, Any]:
        """Keep blocks of bytes as one file; return what a record says of it."""
        with self._new_file(kind) as file:
            for block in blocks:
                file.write(block)
            return file.keep(self._label, extension)

    def copy(self, kind: str, extension: str, path: str) -> Dict[str, Any]:
        """Keep a copy of a file. Raise UnsupportedError where it cannot be read."""
        source = _open_to_read(path)
        try:
            with self._new_file(kind) as file:
                if file.try_clone(source):
                    file.read_all()
                else:
                    for block in _blocks(source, path):
                        file.write(block)
                return file.keep(self._label, extension)
        finally:
            os.close(source)

    def _new_file(self, kind: str) -> "_NewFile":
        if not self._directory:
            raise StorageError(OSError(errno.ENOENT, "the run has no directory"), "media/" + kind)
        return _NewFile(self._directory, kind)


class _Within:
    """Entered for a value that is already being encoded, it raises."""

    def __init__(self, entered: List[int], value: object) -> None:
        self._entered = entered
        self._value = id(value)

    def __enter__(self) -> None:
        if self._value in self._entered:
            raise UnsupportedError("it contains itself")
        if len(self._entered) >= DEPTH_MAX:
            raise UnsupportedError("it holds values within values more than %d deep" % DEPTH_MAX)
        self._entered.append(self._value)

    def __exit__(self, kind: object, error: Optional[BaseException], trace: object) -> None:
        self._entered.pop()


class _NewFile:
    """A file that is being written; it is gone again unless keep() was reached."""

    def __init__(self, directory: str, kind: str) -> None:
        self._directory = directory
        self._place = "media/" + kind
        self._digest = hashlib.sha256()
        self._size = 0
        self._fd = -1
        self._path = ""

    def __enter__(self) -> "_NewFile":  # noqa: PYI034 - typing has no Self on old Pythons
        directory = self._directory
        try:
            for part in self._place.split("/"):
                directory = os.path.join(directory, part)
                try:
                    os.mkdir(directory, _DIRECTORY_MODE)
                except FileExistsError:
                    pass
            self._path = os.path.join(directory, _UNFINISHED_PREFIX + random_id())
            self._fd = os.open(self._path, _NEW, _FILE_MODE)
        except OSError as error:
            raise StorageError(error, self._place) from error
        return self

    def __exit__(self, kind: object, error: Optional[BaseException], trace: object) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
        if self._path:
            try:
                os.unlink(self._path)
            except OSError:
                pass  # the agent passes it over, and the directory goes with the run

    def write(self, block: Any) -> None:
        """Append bytes (or a memoryview of bytes)."""
        self._digest.update(block)
        self._size += len(block)
        rest = memoryview(block)
        while rest:
            try:
                written = os.write(self._fd, rest)
            except OSError as error:
                raise StorageError(error, self._place) from error
            rest = rest[written:]

    def try_clone(self, source: int) -> bool:
        """Share the blocks of an open file, where the filesystem can."""
        if fcntl is None or not sys.platform.startswith("linux"):
            return False
        try:
            fcntl.ioctl(self._fd, _FICLONE, source)
        except OSError:
            return False
        return True

    def read_all(self) -> None:
        """Digest what the file holds."""
        try:
            os.lseek(self._fd, 0, os.SEEK_SET)
            for block in iter(lambda: os.read(self._fd, BLOCK_BYTES), b""):
                self._digest.update(block)
                self._size += len(block)
        except OSError as error:
            raise StorageError(error, self._place) from error

    def keep(self, label: str, extension: str) -> Dict[str, Any]:
        """Give the file its name; return path, digest and size as records have them."""
        digest = self._digest.hexdigest()
        name = "%s_%s.%s" % (label, digest[:DIGEST_DIGITS], safe_extension(extension))
        try:
            fd, self._fd = self._fd, -1
            os.close(fd)  # now, since Windows does not rename open files
            os.replace(self._path, os.path.join(os.path.dirname(self._path), name))
        except OSError as error:
            raise StorageError(error, self._place) from error
        self._path = ""
        return {"path": "%s/%s" % (self._place, name), "sha256": digest, "size": self._size}


def safe_name(name: str) -> str:
    """Return a metric's name as part of a file's name on any filesystem; different names may become one."""
    safe = "".join(c if c in _NAME_SAFE else "_" for c in name[: 4 * NAME_CHARACTERS_MAX])
    return safe[:NAME_CHARACTERS_MAX].strip("._-") or "value"


def safe_extension(extension: str) -> str:
    """Return an extension that is letters and digits."""
    safe = "".join(c for c in extension.lower() if c in _EXTENSION_SAFE)
    return safe[:EXTENSION_CHARACTERS_MAX] or "bin"


def extension_of(path: str) -> str:
    """Return the extension of a path, in lower case and without the dot."""
    return os.path.splitext(path)[1][1:].lower()


def as_path(value: Any) -> Optional[str]:
    """Return the path that a string or path object is; None for anything else."""
    if isinstance(value, str):
        return value
    if hasattr(type(value), "__fspath__"):
        path = os.fspath(value)
        return path if isinstance(path, str) else os.fsdecode(path)
    return None


def read_start(path: str, size: int) -> bytes:
    """Return the first bytes of a file. Raise UnsupportedError where it cannot be read."""
    fd = _open_to_read(path)
    try:
        return next(_blocks(fd, path, size), b"")
    finally:
        os.close(fd)


def _open_to_read(path: str) -> int:
    try:
        # Without O_NONBLOCK a named pipe would hold us up until somebody opens its other end.
        fd = os.open(path, os.O_RDONLY | _BINARY | getattr(os, "O_NONBLOCK", 0))
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = getattr(error, "strerror", None) or error
        raise UnsupportedError("%s cannot be read: %s" % (path[:1000], reason)) from error
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise UnsupportedError("%s is not a file" % path)
    return fd


def _blocks(fd: int, path: str, size: int = BLOCK_BYTES) -> Iterator[bytes]:
    while True:
        try:
            block = os.read(fd, size)
        except OSError as error:
            raise UnsupportedError("%s cannot be read: %s" % (path, error.strerror or error)) from error
        if not block:
            return
        yield block
