"""StreamWriter: appends lines to the segments of one stream.

Relies on O_APPEND and one os.write per line: a line is in the kernel, whole, when write()
returns, and no other process can lose it. Linux and macOS; on Windows without the live lock.
"""

import os
from zlib import crc32

from msgpack import Unpacker

from .codec import _LINE16, Seeds, encode_line
from .header import Header, encode_header
from .kinds import SEGMENT_BYTES, SEGMENT_NUMBER_MAX
from .layout import live_name, segment_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Optional, Tuple


try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

pack_line16 = _LINE16.pack

_OPEN = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0)
_OPEN |= getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
# A default ACL on the spool narrows this; elsewhere the umask does.
_MODE = 0o660
#: Descriptors get numbers from here on: programs close the low ones wholesale, and what they open next would
#: get ours, and with them our records.
_DESCRIPTOR_MIN = 900


class StreamWriter:
    """Writes one stream. Not thread-safe: callers hold a lock around write() and close().

    Every method raises OSError when the file system refuses; after write() then nothing of
    the refused line remains (or what remains is left behind in a segment of its own).
    """

    def __init__(self, directory: str, header: Header, segment_bytes: int = SEGMENT_BYTES) -> None:
        """Create the live lock and the first segment. `header` is that of segment 0."""
        assert header.segment == 0 and header.base == 0
        self.directory = directory
        self.header = header
        self.segment_bytes = segment_bytes
        self.heed_limit()
        self._spoiled = False
        self._lock_fd = self._take_live_lock()
        try:
            self._fd, self._size, self._seeds = self._open_segment(header)
        except OSError:
            self._release_live_lock()
            if fcntl is not None:
                os.unlink(os.path.join(directory, live_name(header.stream)))
            raise
        self._first_bytes = self._size

    @property
    def position(self) -> int:
        """Bytes written to the stream so far."""
        return self.header.base + self._size

    def write(self, kind: int, body: bytes) -> None:
        """Append one line with one os.write. Raise ValueError when it is too long."""
        size = len(body)
        if 0xFF < size < 0x10000 and kind < 128:  # most lines, without a call: log() pays for it
            line = pack_line16(0x93, kind, 0xCE, crc32(body, self._seeds[kind]), 0xC5, size) + body
        else:
            line = encode_line(kind, body, self._seeds[kind])
        size = len(line)
        if self._size + size > self.segment_bytes or self._spoiled:
            full = self._size > self._first_bytes
            if (self._spoiled or full) and self._try_roll():
                line = encode_line(kind, body, self._seeds[kind])
        written = os.write(self._fd, line)
        if written != size:
            self._undo(written)
            raise OSError(28, "No space left on device: %d of %d bytes were written" % (written, size))
        self._size += size

    def _undo(self, written: int) -> None:
        """Take back a line that was cut short, so that the next one starts clean."""
        self._spoiled = True
        self.heed_limit()
        # Asked of the file, not of _size: Ctrl-C right after a write() leaves that behind.
        whole = os.fstat(self._fd).st_size - written
        try:
            os.ftruncate(self._fd, whole)
        except OSError:
            return  # The torn line stays: it counts towards the next segment's base.
        self._size = whole
        self._spoiled = False

    def _try_roll(self) -> bool:
        """Start the next segment. False when that is not possible but this one is still usable.

        Until it is known whether that worked, this segment counts as spoiled: once the next one
        has its HEADER, readers take this one for ended, even if an interrupt came in between.
        """
        number = self.header.segment + 1
        if number > SEGMENT_NUMBER_MAX:
            return False
        self._size = os.fstat(self._fd).st_size
        header = self.header._replace(segment=number, base=self.header.base + self._size)
        spoiled, self._spoiled = self._spoiled, True
        try:
            opened = self._open_segment(header, adopt=True)
        except OSError:
            self._spoiled = spoiled
            if spoiled or self.deleted():
                raise
            return False
        old = self._fd
        fd, size, seeds = opened
        # One step, so that an interrupt finds either segment, never half of each.
        self.__dict__.update(
            _fd=fd, _size=size, _seeds=seeds, _first_bytes=size, header=header, _spoiled=False
        )
        os.close(old)
        return True

    def _open_segment(self, header: Header, adopt: bool = False) -> "Tuple[int, int, Seeds]":
        """Create a segment. adopt: one that an interrupted attempt left behind is taken over."""
        path = os.path.join(self.directory, segment_name(header.stream, header.segment))
        line = encode_header(header)
        try:
            fd = _out_of_the_way(os.open(path, _OPEN, _MODE))
        except FileExistsError:
            if not adopt:
                raise
            fd = _out_of_the_way(os.open(path, _OPEN & ~(os.O_CREAT | os.O_EXCL)))
            if os.fstat(fd).st_size > len(line):  # not ours: that holds a HEADER of these bytes
                os.close(fd)
                raise
            os.ftruncate(fd, 0)
        try:
            written = os.write(fd, line)
            if written != len(line):
                raise OSError(28, "No space left on device: the HEADER was cut short")
        except OSError:
            os.close(fd)
            os.unlink(path)
            raise
        return fd, written, Seeds(header.stream, header.segment)

    def _take_live_lock(self) -> "Optional[int]":
        if fcntl is None:
            return None
        path = os.path.join(self.directory, live_name(self.header.stream))
        fd = _out_of_the_way(os.open(path, _OPEN & ~os.O_APPEND, _MODE))  # before it is locked
        try:
            fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(fd)
            os.unlink(path)
            raise
        return fd

    def _release_live_lock(self) -> None:
        fd, self._lock_fd = self._lock_fd, None
        if fd is not None:
            os.close(fd)

    def heed_limit(self) -> None:
        """Roll before a file becomes larger than this process may make any (RLIMIT_FSIZE).

        Asked at the start and after a write was cut short or refused: a program may set the limit later.
        """
        try:
            import resource  # only here: Windows has none

            soft = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
        except (ImportError, OSError, ValueError):
            return
        if soft != resource.RLIM_INFINITY:
            self.segment_bytes = min(self.segment_bytes, soft)

    def deleted(self) -> bool:
        """Return whether somebody deleted the present segment: writing goes on, and nobody will read it."""
        path = os.path.join(self.directory, segment_name(self.header.stream, self.header.segment))
        try:
            # Some file systems have no count of links to tell.
            return os.fstat(self._fd).st_nlink == 0 and not os.path.lexists(path)
        except OSError:
            return False

    def count_records(self) -> int:
        """Return how many records the present segment holds, deleted or not; 0 where nobody tells."""
        try:
            # The descriptor itself is for writing only.
            with open("/proc/self/fd/%d" % self._fd, "rb") as file:
                return max(0, sum(1 for _ in Unpacker(file, raw=True)) - 1)
        except Exception:  # noqa: BLE001 - no such system, or not whole: a count less
            return 0

    def sync(self) -> None:
        """Let the kernel write the present segment to the disk. Slow; log() never does."""
        os.fsync(self._fd)

    def close(self) -> None:
        """Close the segment, then let go of the live lock. May be called twice.

        Raise OSError where the file system refuses only now, as NFS does, or somebody else closed them.
        """
        fd, self._fd = self._fd, -1
        try:
            if fd >= 0:
                os.close(fd)
        finally:
            self._release_live_lock()

    def forget(self) -> None:
        """Close a forked copy's descriptors. The parent's lock is not the child's to drop."""
        self.close()


def _out_of_the_way(fd: int) -> int:
    for low in (_DESCRIPTOR_MIN, 3):  # the process may not have that many; but never be its stdout
        if fcntl is None or fd >= low:
            break
        try:
            moved = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, low)
        except OSError:
            continue
        os.close(fd)
        return moved
    return fd
