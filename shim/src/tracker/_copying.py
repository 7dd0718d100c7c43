"""Copies one file: by sharing its blocks (reflink) where the file system can, else byte by byte.

Never a hard link: the agent does not read files with a second link, and what the training writes to its own
file later would change the kept one. A copy appears under its name whole or not at all.
"""

import errno
import os
import stat
import sys
from typing import List, NamedTuple, Optional

from ._names import random_id

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

#: The agent passes over files of such names: they are not whole yet.
UNFINISHED_PREFIX = ".tracker-"
#: A file that is written to while it is copied is copied again so often; then it is taken as it was.
TRIES_MAX = 3
_BLOCK_BYTES = 1024 * 1024
_ZEROS = bytes(_BLOCK_BYTES)
#: ioctl_ficlone(2)
_FICLONE = 0x40049409
_READ = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
_CREATE = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_CREATE |= getattr(os, "O_NOFOLLOW", 0)
# As all files of a run directory: a default ACL on the spool narrows this, elsewhere the umask does.
_MODE = 0o660
_DIRECTORY_MODE = 0o770


class Signature(NamedTuple):
    """What tells one content of a file from another without reading it."""

    device: int
    inode: int
    size: int
    mtime_ns: int


def signature_of(path: str) -> Optional[Signature]:
    """Return the signature of a regular file, None where there is none."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    return _signature(status) if stat.S_ISREG(status.st_mode) else None


def try_open(path: str) -> List[int]:
    """Return the descriptor of a regular file in a list, none where it cannot be opened."""
    try:
        return [_open(path)]
    except (OSError, ValueError):
        return []


def copy_file(source: str, target: str, opened: Optional[int] = None) -> Signature:
    """Copy a regular file; return the signature of what was copied. Raise OSError.

    target: its directory must exist; a file of that name is replaced. opened: a descriptor of the source,
    which may be deleted then.
    """
    fd = _open(source) if opened is None else opened
    try:
        for left in reversed(range(TRIES_MAX)):
            before = _signature(os.fstat(fd))
            temporary = os.path.join(os.path.dirname(target), UNFINISHED_PREFIX + random_id())
            try:
                _copy(fd, temporary)
                # What changed meanwhile may be half of one content and half of another.
                if left and _signature(os.fstat(fd)) != before:
                    os.unlink(temporary)
                    continue
                os.replace(temporary, target)
            except BaseException:
                _remove(temporary)
                raise
            return before
    finally:
        if opened is None:
            os.close(fd)
    raise AssertionError  # the last try returns or raises


def write_file(target: str, data: bytes) -> None:
    """Write a file whose directory exists, whole or not at all. Raise OSError."""
    temporary = os.path.join(os.path.dirname(target), UNFINISHED_PREFIX + random_id())
    fd = os.open(temporary, _CREATE, _MODE)
    try:
        try:
            _write(fd, data)
        finally:
            os.close(fd)
        os.replace(temporary, target)
    except BaseException:
        _remove(temporary)
        raise


def ensure_directory(root: str, below: str) -> str:
    """Return the directory at a relative path below root, made where missing. Raise OSError.

    Nothing on the way may be a link: it could lead out of root.
    """
    path = root
    for part in [""] + [part for part in below.split("/") if part]:
        path = os.path.join(path, part) if part else path
        try:
            os.mkdir(path, _DIRECTORY_MODE)
        except FileExistsError:
            if not stat.S_ISDIR(os.lstat(path).st_mode):
                raise NotADirectoryError(errno.ENOTDIR, "a link or file stands in its path", path) from None
    return path


def _open(path: str) -> int:
    # A FIFO would keep a plain open() waiting for ever.
    fd = os.open(path, _READ)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.EINVAL, "it is not a regular file", path)
    return fd


def _signature(status: os.stat_result) -> Signature:
    return Signature(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


def _copy(source: int, path: str) -> None:
    target = os.open(path, _CREATE, _MODE)
    try:
        if not _clone(source, target):
            _copy_bytes(source, target)
    finally:
        os.close(target)


def _clone(source: int, target: int) -> bool:
    if fcntl is None or not sys.platform.startswith("linux"):
        return False
    try:
        fcntl.ioctl(target, _FICLONE, source)
    except OSError:  # another file system, or one without reflinks; if it is full, copying says so
        return False
    return True


def _copy_bytes(source: int, target: int) -> None:
    offset = os.lseek(source, 0, os.SEEK_SET)  # this may be the second try
    while True:
        block = os.read(source, _BLOCK_BYTES)
        if not block:
            break
        if block == _ZEROS[: len(block)]:
            offset = os.lseek(target, _skip_hole(source, offset + len(block)), os.SEEK_SET)
            continue
        _write(target, block)
        offset += len(block)
    os.ftruncate(target, offset)


def _skip_hole(source: int, offset: int) -> int:
    """Go to the next data at an offset or behind it; return where that is."""
    try:
        return os.lseek(source, offset, os.SEEK_DATA)
    except (OSError, AttributeError) as error:
        if getattr(error, "errno", 0) == errno.ENXIO:  # there is none
            return os.lseek(source, 0, os.SEEK_END)
        return os.lseek(source, offset, os.SEEK_SET)


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        pass


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        written = os.write(fd, view)
        if not written:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        view = view[written:]
