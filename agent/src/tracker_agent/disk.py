"""Every file system call about spools, own streams and the agent's own state, in one place.

Scanner, tailer, trimmer and checkpoint reach files only through a Disk, so that the simulator (tests/model)
can hand in one that tears, fills up, forgets and fails. The real one adds nothing to the calls but the care
of opening.py.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Collection

from tracker.protocol.layout import live_name
from tracker.protocol.lock import lock_holder

from .opening import Opener, Place, Refused
from .user_names import UserNames


class Disk(Opener):
    """The machine's files. Everything raises OSError; what opens what users wrote raises Refused, too."""

    def __init__(self, openat2: bool = True) -> None:
        super().__init__(openat2)
        self._user_names = UserNames()

    # Looking.

    def status(self, path: str, follow: bool = False) -> os.stat_result:
        """Return the state of what a path names; follow: of what a symbolic link points to."""
        return os.stat(path, follow_symlinks=follow)

    def names(self, path: str) -> list[str]:
        """Return the names in a directory that is trusted."""
        return os.listdir(path)

    def check_user_directory(self, root: str, user: str, uid: int) -> None:
        """Make sure that <root>/<user> is a directory that belongs to uid."""
        with self.user_directory(root, user, uid):
            pass

    def directories(self, root: str, user: str, uid: int) -> Collection[str]:
        """Return the names of the directories in <root>/<user>."""
        with self.user_directory(root, user, uid) as fd, os.scandir(fd) as listing:
            return {item.name for item in listing if item.is_dir(follow_symlinks=False)}

    def read_user_file(self, root: str, user: str, uid: int, name: str, bytes_max: int) -> bytes:
        """Return the beginning of <root>/<user>/<name>."""
        with self.user_directory(root, user, uid) as directory:
            fd = self.open_regular(directory, name, uid)
        try:
            return os.read(fd, bytes_max)
        finally:
            os.close(fd)

    def lock_holder(self, place: Place, stream: bytes) -> int | None:
        """Return the pid that holds a stream's live lock, 0 for one in a pid namespace we cannot see.

        None: nobody does. Never ask for a stream that this process writes: closing the file would drop
        its own lock. OSError means that the lock cannot be asked, which says nothing about the writer.
        """
        try:
            fd = self.open_file(place, live_name(stream))
        except (FileNotFoundError, Refused):
            return None
        try:
            return lock_holder(fd)
        finally:
            os.close(fd)

    def user_name(self, uid: int) -> str:
        """Return the name of a user, its number where it has none."""
        return self._user_names.name(uid)

    # Reading what is open.

    pread = staticmethod(os.pread)
    close = staticmethod(os.close)

    def size(self, fd: int) -> int:
        """Return the size of an open file."""
        return os.fstat(fd).st_size

    def data_after(self, fd: int, offset: int, size: int) -> int:
        """Return where the next data is in an open file, its size when only a hole follows."""
        try:
            return os.lseek(fd, offset, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return size
            return offset  # a file system that does not tell

    def is_deleted(self, fd: int) -> bool:
        """Return whether an open file has no name any more."""
        try:
            return os.fstat(fd).st_nlink == 0
        except OSError:
            return False

    def is_running(self, pid: int) -> bool:
        """Return whether there is such a process, and it has not ended."""
        try:
            with open(f"/proc/{pid}/stat", "rb") as file:
                return file.read().rpartition(b") ")[2][:1] not in (b"Z", b"X")
        except OSError:
            return False

    # The agent's own files.

    def unlink(self, path: str) -> None:
        """Remove a file, if it is there."""
        try:
            os.unlink(path)
        except FileNotFoundError:
            pass

    def read_file(self, path: str) -> bytes:
        """Return all of a file of the agent's state."""
        with open(path, "rb") as file:
            return file.read()

    def rename(self, path: str, new_path: str) -> None:
        """Rename a file of the agent's state."""
        os.replace(path, new_path)

    def replace_file(self, path: str, content: bytes) -> None:
        """Write a file of the agent's state: whole or not at all, and kept over a power loss."""
        directory = os.path.dirname(path)
        os.makedirs(directory, mode=0o700, exist_ok=True)
        temporary = path + ".new"
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            with open(fd, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except OSError:
            self.unlink(temporary)
            raise
        directory_fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory_fd)
        finally:
            os.close(directory_fd)
