"""Removes run directories and segments from a spool, and measures them: never outside the owner's directory.

Everything is done relative to descriptors of directories that belong to the user, one name at a time and
never through a link. Whoever owns a directory could remove any name in it himself, so unlinking there crosses
no border whatever the name stands for; directories of another owner or on another file system are left alone.
All functions run in the spool's thread.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice

from tracker.protocol.layout import parse_live_name, parse_segment_name, segment_name

from .disk import Disk
from .opening import Place, Refused

#: Directories within a run directory are followed down to this depth.
DEPTH_MAX = 32
#: Of a directory with more files than these the rest counts for nothing: measuring has a bound, too.
FILES_MEASURED_MAX = 20_000
#: A disk with less left than this is full as far as writers are concerned.
DISK_FULL_BYTES = 1024 * 1024
#: The start of a stream says which run it is of and how it was configured: it stays when data is given up.
STUB_BYTES = 64 * 1024

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW
_WRITE = os.O_RDWR | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC | os.O_NOFOLLOW
_PUNCH_HOLE = 0x01 | 0x02  # FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE


class Left(Exception):
    """A run directory that is to go, but not now. str() says why."""


class Spent(Exception):
    """The budget of this round is used up: go on in the next one."""


@dataclass(slots=True)
class Budget:
    """How many files may still be looked at or removed in this round."""

    files: int

    def spend(self) -> None:
        """Count one file. Raise Spent when it was one too many."""
        self.files -= 1
        if self.files < 0:
            raise Spent


@dataclass(slots=True)
class Measured:
    """What a run directory takes up. Bytes are those on disk, so that holes in files count for nothing."""

    disk_bytes: int = 0
    segments: dict[bytes, dict[int, tuple[int, float]]] = field(default_factory=dict)  #: (bytes, changed_s)


class Remover:
    """Removes below the directories that a Disk opens. Everything may raise OSError, Refused or Left."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk

    def measure(self, place: Place) -> Measured:
        """Return what a run directory takes up, FILES_MEASURED_MAX of its files at most."""
        measured = Measured()
        with self._open_run(place) as (_, fd):
            files = _files(self._disk, fd, place.uid, os.fstat(fd).st_dev, 0)
            for name, status in islice(files, FILES_MEASURED_MAX):
                size = status.st_blocks * 512
                measured.disk_bytes += size
                parsed = parse_segment_name(name)
                if parsed is not None:
                    measured.segments.setdefault(parsed[0], {})[parsed[1]] = (size, status.st_mtime)
        return measured

    def remove_run(
        self,
        place: Place,
        newest: Mapping[bytes, tuple[int, int]],
        before_s: float,
        budget: Budget,
        strangers_before_s: float,
        refused: Collection[bytes] = (),
    ) -> None:
        """Remove a run directory, unless something in it is not what it was taken for.

        newest: number and size of the newest segment of each stream that may go. before_s: nothing else that
        changed since then (wall clock) is touched, and strangers_before_s: no segment of another stream; of
        those only what was refused goes at all, for clocks jump. What Spent interrupts is taken up again by
        the next call.
        """
        with self._open_run(place) as (user, fd):
            names = os.listdir(fd)
            _check_idle(self._disk, place, fd, names, newest, strangers_before_s, refused)
            segments = sorted(name for name in names if parse_segment_name(name) is not None)
            locks = [name for name in names if parse_live_name(name) is not None]
            others = set(names).difference(segments, locks)
            _clear(self._disk, fd, others, place.uid, os.fstat(fd).st_dev, before_s, budget, 0)
            # The newest segment of a stream goes last: what an interrupted call leaves is still a whole end.
            for name in locks + segments:
                budget.spend()
                try:
                    _unlink(name, fd)
                except IsADirectoryError:
                    _clear(self._disk, fd, [name], place.uid, os.fstat(fd).st_dev, before_s, budget, 0)
            try:
                os.rmdir(place.name, dir_fd=user)
            except OSError as error:
                if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                    raise Left("something new appeared in it") from error
                raise

    def remove_segment(self, place: Place, stream: bytes, number: int) -> None:
        """Remove one segment."""
        with self._open_run(place) as (_, fd):
            _unlink(segment_name(stream, number), fd)

    def empty_segment(self, place: Place, stream: bytes, number: int, start: int) -> None:
        """Give back the disk space of a segment from `start` on. Its size stays, so readers find a gap."""
        with self._open_run(place) as (_, directory):
            fd = self._disk.open_beneath(directory, segment_name(stream, number), _WRITE)
            try:
                status = os.fstat(fd)
                # Checked on the descriptor: whatever its name stands for now, this file is the user's alone.
                if not stat.S_ISREG(status.st_mode) or status.st_uid != place.uid or status.st_nlink != 1:
                    raise Refused(f"segment {number:06d} is not the user's own file")
                if start < status.st_size:
                    _give_back(fd, start, status.st_size)
            finally:
                os.close(fd)

    def remove_if_empty(self, place: Place, before_s: float) -> bool:
        """Remove a run directory in which nothing is and nothing changed lately."""
        with self._open_run(place) as (user, fd):
            status = os.fstat(fd)
            if max(status.st_mtime, status.st_ctime) >= before_s:
                return False
            try:
                os.rmdir(place.name, dir_fd=user)
            except OSError as error:
                if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                    return False
                raise
        return True

    def disk_problem(self, path: str) -> str | None:
        """Say that the disk of a spool is full. Shipping needs no disk; those who write there do."""
        try:
            status = os.statvfs(path)
        except OSError:
            return None
        if status.f_bavail * status.f_frsize < DISK_FULL_BYTES:
            return "its disk is full: trainings cannot write records there, shipping goes on; make room"
        if status.f_files and not status.f_favail:
            return (
                "its disk has no inodes left: trainings cannot start runs there, shipping goes on; make room"
            )
        return None

    @contextmanager
    def _open_run(self, place: Place) -> Iterator[tuple[int, int]]:
        """Lend descriptors of the user's directory and of the run directory in it."""
        with self._disk.user_directory(place.root, place.user, place.uid) as user:
            fd = _open_below(self._disk, user, place.name, place.uid, os.fstat(user).st_dev)
            try:
                yield user, fd
            finally:
                os.close(fd)


def _check_idle(
    disk: Disk,
    place: Place,
    fd: int,
    names: list[str],
    newest: Mapping[bytes, tuple[int, int]],
    before_s: float,
    refused: Collection[bytes],
) -> None:
    """Raise Left when a run directory holds more than was shipped, or somebody writes there."""
    for name in names:
        parsed = parse_segment_name(name)
        if parsed is None:
            continue
        stream, number = parsed
        status = os.stat(name, dir_fd=fd, follow_symlinks=False)
        known = newest.get(stream)
        if known is None:
            # Not a record stream as far as anyone knows. It goes with the run, unless it is new.
            judged = stream in refused or not status.st_size
            if not judged or max(status.st_mtime, status.st_ctime) >= before_s:
                raise Left(f"{name} is new")
        elif number > known[0] or (number == known[0] and status.st_size != known[1]):
            raise Left(f"{name} has grown")
    for stream in filter(None, map(parse_live_name, names)):
        if disk.lock_holder(place, stream) is not None:
            raise Left(f"stream {stream.hex()} has a writer")


def _clear(
    disk: Disk,
    directory: int,
    names: Iterable[str],
    uid: int,
    device: int,
    before_s: float,
    budget: Budget,
    depth: int,
) -> None:
    """Remove names from a directory of the user's, with what is below them."""
    if depth > DEPTH_MAX:
        raise Left(f"it is more than {DEPTH_MAX} directories deep")
    for name in names:
        budget.spend()
        try:
            status = os.stat(name, dir_fd=directory, follow_symlinks=False)
        except FileNotFoundError:
            continue
        if not stat.S_ISDIR(status.st_mode):
            if status.st_ctime >= before_s:
                raise Left(f"{name} is new")
            _unlink(name, directory)
            continue
        below = _open_below(disk, directory, name, uid, device)
        try:
            _clear(disk, below, os.listdir(below), uid, device, before_s, budget, depth + 1)
        finally:
            os.close(below)
        try:
            os.rmdir(name, dir_fd=directory)
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                raise Left(f"something new appeared in {name}") from error
            raise


def _files(
    disk: Disk, directory: int, uid: int, device: int, depth: int
) -> Iterator[tuple[str, os.stat_result]]:
    """Yield name and state of everything below a directory; segments are looked for at its top only."""
    below = []
    with os.scandir(directory) as listing:
        for item in listing:
            try:
                status = item.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            yield item.name if depth == 0 else "", status
            if stat.S_ISDIR(status.st_mode) and depth < DEPTH_MAX:
                below.append(item.name)
    for name in below:
        try:
            fd = _open_below(disk, directory, name, uid, device)
        except (OSError, Refused, Left):
            continue  # not the user's, or gone: it is not his to pay for
        try:
            yield from _files(disk, fd, uid, device, depth + 1)
        finally:
            os.close(fd)


def _open_below(disk: Disk, directory: int, name: str, uid: int, device: int) -> int:
    """Open a directory of the user's on the same file system. Raise Refused, Left, OSError."""
    try:
        fd = disk.open_beneath(directory, name, _DIRECTORY)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR, errno.EXDEV):
            raise Refused(f"{name} is not a directory") from error
        raise
    status = os.fstat(fd)
    if status.st_uid == uid and status.st_dev == device:
        return fd
    os.close(fd)
    if status.st_uid != uid:
        raise Refused(f"{name} belongs to uid {status.st_uid}, not to uid {uid}")
    raise Left(f"another file system is mounted at {name}")


def _unlink(name: str, directory: int) -> None:
    try:
        os.unlink(name, dir_fd=directory)
    except FileNotFoundError:
        pass


def _give_back(fd: int, start: int, end: int) -> None:
    """Turn a part of a file into a hole."""
    fallocate = ctypes.CDLL(None, use_errno=True).fallocate
    if fallocate(fd, _PUNCH_HOLE, ctypes.c_int64(start), ctypes.c_int64(end - start)) == 0:
        return
    number = ctypes.get_errno()
    if number not in (errno.EOPNOTSUPP, errno.ENOSYS):
        raise OSError(number, os.strerror(number))
    os.ftruncate(fd, start)
    os.ftruncate(fd, end)
