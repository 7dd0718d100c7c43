"""Opens what other users wrote, without being led astray: no symlink, FIFO, device, second link or foreign
owner.

Users own the directories the agent reads, so every name in them may be changed while it is being opened.
Paths are resolved by the kernel (openat2) below a directory that is already open; older kernels and seccomp
filters that refuse openat2 get a walk with O_NOFOLLOW per component.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

_SYS_OPENAT2 = 437  # the same on every architecture
_RESOLVE = 0x04 | 0x08  # RESOLVE_NO_SYMLINKS | RESOLVE_BENEATH
_RACES_MAX = 8  # openat2 answers EAGAIN when a rename went on below it

_FILE = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC | os.O_NOFOLLOW
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW


class Refused(Exception):
    """Something is there, but it is not what belongs there. str() says why; it is never shipped."""


def failure(error: OSError) -> str:
    """Return what an error means, and what to do where it is the owner's doing."""
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"{error.strerror}: its mode shuts the agent out; its owner can let it in with chmod -R g+rwX"
    return error.strerror or str(error)


@dataclass(frozen=True, slots=True)
class Place:
    """A run directory: <root>/<user>/<name>, or <root>/<name> in the agent's own state. uid owns it all."""

    root: str
    user: str
    name: str
    uid: int

    @property
    def path(self) -> str:
        """For messages and hints; opening never trusts it."""
        return os.path.join(self.root, self.user, self.name)


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


class Opener:
    """Opens below directories. `openat2=False` forces the fallback."""

    def __init__(self, openat2: bool = True) -> None:
        self._openat2 = openat2
        self._syscall = ctypes.CDLL(None, use_errno=True).syscall

    def open_beneath(self, directory: int, path: str, flags: int) -> int:
        """Open a relative path below a directory's descriptor. Raise OSError; ELOOP for a symlink."""
        if self._openat2:
            try:
                return self._call_openat2(directory, path, flags)
            except OSError as error:
                if error.errno not in (errno.ENOSYS, errno.EPERM, errno.E2BIG):
                    raise
                self._openat2 = False
        return _walk(directory, path, flags)

    def _call_openat2(self, directory: int, path: str, flags: int) -> int:
        how = _OpenHow(flags, 0, _RESOLVE)
        name = os.fsencode(path)
        for _ in range(_RACES_MAX):
            fd = self._syscall(
                ctypes.c_long(_SYS_OPENAT2), directory, name, ctypes.byref(how), ctypes.c_size_t(24)
            )
            if fd >= 0:
                return int(fd)
            number = ctypes.get_errno()
            if number not in (errno.EAGAIN, errno.EINTR):
                raise OSError(number, os.strerror(number), path)
        raise OSError(errno.EAGAIN, "keeps being renamed while it is opened", path)

    @contextmanager
    def user_directory(self, root: str, user: str, uid: int) -> Iterator[int]:
        """Lend the descriptor of <root>/<user>, which must belong to uid; of root itself when user is ""."""
        root_fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            if not user:
                yield root_fd
                return
            fd = self.open_beneath(root_fd, user, _DIRECTORY)
            try:
                owner = os.fstat(fd).st_uid
                if owner != uid:
                    raise Refused(f"the directory of uid {uid} belongs to uid {owner}")
                yield fd
            finally:
                os.close(fd)
        finally:
            os.close(root_fd)

    def open_file(self, place: Place, name: str) -> int:
        """Open a file of a run directory for reading. Raise Refused, or OSError."""
        with self.user_directory(place.root, place.user, place.uid) as user:
            return self.open_regular(user, f"{place.name}/{name}" if place.name else name, place.uid)

    def open_regular(self, directory: int, path: str, uid: int) -> int:
        """Open a regular file with one link that belongs to uid. Raise Refused, or OSError."""
        try:
            # Opening some devices does something already, so look before.
            check_regular(os.lstat(path, dir_fd=directory), uid)
            fd = self.open_beneath(directory, path, _FILE)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENOTDIR, errno.EXDEV, errno.ENXIO):
                raise Refused("a symbolic link or special file stands in its path") from error
            raise
        try:
            check_regular(os.fstat(fd), uid)
        except BaseException:
            os.close(fd)
            raise
        return fd

    def list_directory(self, place: Place) -> tuple[os.stat_result, list[str]]:
        """Return the state of a run directory from before it was listed, and the names in it."""
        with self.user_directory(place.root, place.user, place.uid) as user:
            try:
                fd = self.open_beneath(user, place.name, _DIRECTORY)
            except OSError as error:
                if error.errno in (errno.ELOOP, errno.ENOTDIR, errno.EXDEV):
                    raise Refused("not a directory") from error
                raise
            try:
                status = os.fstat(fd)
                if status.st_uid != place.uid:
                    raise Refused(f"belongs to uid {status.st_uid}, not to uid {place.uid}")
                return status, os.listdir(fd)
            finally:
                os.close(fd)


def check_regular(status: os.stat_result, uid: int) -> None:
    """Make sure that a state is that of a regular file with one link that belongs to uid. Raise Refused."""
    if stat.S_ISLNK(status.st_mode):
        raise Refused("a symbolic link")
    if not stat.S_ISREG(status.st_mode):
        raise Refused("not a regular file")
    if status.st_uid != uid:
        raise Refused(f"belongs to uid {status.st_uid}, not to uid {uid}")
    if status.st_nlink != 1:
        raise Refused(f"has {status.st_nlink} links: it may be another user's file")


def _walk(directory: int, path: str, flags: int) -> int:
    """Open path one component at a time, none of them a symlink or a way up."""
    parts = path.split("/")
    if not all(part and part not in (".", "..") for part in parts):
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), path)
    fd = directory
    try:
        for part in parts[:-1]:
            below = os.open(part, _DIRECTORY, dir_fd=fd)
            if fd != directory:
                os.close(fd)
            fd = below
        return os.open(parts[-1], flags | os.O_NOFOLLOW, dir_fd=fd)
    finally:
        if fd != directory:
            os.close(fd)
