"""File systems that fail for real: full, read-only, hung, or gone as after a power failure.

Each is a mount of its own (tmpfs, or ext4 on a loop device) where the test wants it. Needs root.
Leave the with-block and everything is unmounted, also when the test fails.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import subprocess
import time
from pathlib import Path
from typing import Self

from tests.support import require

#: EXT4_IOC_SHUTDOWN: from then on every access is EIO; NOLOGFLUSH: the journal in memory is lost as well.
_SHUTDOWN, _NOLOGFLUSH = 0x8004587D, 2
_UNMOUNT_TRIES = 100
_LET_GO_TRIES = 500


class Disk:
    """A mounted file system. `path` is where it is mounted."""

    def __init__(self, path: Path) -> None:
        require.root()
        self.path = path
        self._ballast = path / "ballast"
        self._mounted = False

    def mount(self) -> None:
        """Mount it."""
        raise NotImplementedError

    def unmount(self) -> None:
        """Unmount it. What still uses it must be gone first; the last users get two seconds."""
        for _ in range(_UNMOUNT_TRIES):
            if _run("umount", self.path).returncode == 0:
                self._mounted = False
                return
            time.sleep(0.02)
        users = _run("fuser", "-vm", self.path).stderr
        raise AssertionError(f"{self.path} is still in use:\n{users}")

    def fill(self, leave_bytes: int = 0) -> None:
        """Take all the room there is, but for about leave_bytes."""
        with open(self._ballast, "ab", buffering=0) as file:
            for size in (1 << 20, 4096, 1):
                try:
                    while True:
                        file.write(bytes(size))
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
            if leave_bytes:
                file.truncate(max(0, os.fstat(file.fileno()).st_size - leave_bytes))

    def free(self) -> None:
        """Give back the room that fill() took."""
        self._ballast.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        self.path.mkdir(parents=True, exist_ok=True)
        self.mount()
        return self

    def __exit__(self, *_: object) -> None:
        if self._mounted:
            _run("fsfreeze", "-u", self.path)
            _run("umount", "-l", self.path)
            self._mounted = False

    def _mount(self, *arguments: str | Path) -> None:
        done = _run("mount", *arguments, self.path)
        if done.returncode:
            require.absent("mount", f"mounting failed: {done.stderr.strip()}", "a machine that may mount")
        self._mounted = True
        self.path.chmod(0o1777)


class SmallDisk(Disk):
    """A tmpfs of a few bytes."""

    def __init__(self, path: Path, size_bytes: int) -> None:
        super().__init__(path)
        self._size_bytes = size_bytes

    def mount(self) -> None:
        """Mount an empty one."""
        self._mount("-t", "tmpfs", "-o", f"size={self._size_bytes}", "tmpfs")

    def set_read_only(self, read_only: bool) -> None:
        """Refuse writes, or take them again. Fails while a file is open for writing."""
        done = _run("mount", "-o", f"remount,{'ro' if read_only else 'rw'}", self.path)
        if done.returncode:
            raise OSError(errno.EBUSY, done.stderr.strip())


class LoopDisk(Disk):
    """An ext4 on a loop device: can lose its power, and hang."""

    def __init__(self, path: Path, size_bytes: int) -> None:
        super().__init__(path)
        require.program("mkfs.ext4", "e2fsprogs")
        self._image = path.with_name(path.name + ".img")
        self._size_bytes = size_bytes

    def mount(self) -> None:
        """Mount it, making it when there is none yet. After a power failure the journal is replayed."""
        if not self._image.exists():
            with self._image.open("wb") as file:
                file.truncate(self._size_bytes)
            # Written out every second, so that a power failure takes some of a run and not all of it.
            subprocess.run(["mkfs.ext4", "-q", "-F", "-m", "0", self._image], check=True, capture_output=True)
        self._mount("-o", "loop,commit=1", self._image)
        self.free()  # that it was freed may have gone with the power

    def unmount(self) -> None:
        """Unmount it, and wait until nobody holds a copy of the mount either, in whatever namespace."""
        super().unmount()
        for _ in range(_LET_GO_TRIES):
            if not _run("losetup", "-j", self._image).stdout:
                return
            time.sleep(0.02)
        raise AssertionError(f"another mount namespace still uses {self.path}: {_mounted_by(self.path)}")

    def cut_power(self) -> None:
        """Let every access fail with EIO from now on, and drop what was not written back.

        The processes that use it are to be killed, as a power failure does; then unmount() and mount().
        """
        descriptor = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.ioctl(descriptor, _SHUTDOWN, struct.pack("I", _NOLOGFLUSH))
        finally:
            os.close(descriptor)

    def freeze(self) -> None:
        """Let every write hang, as a dead network mount does: not even SIGKILL ends a process in it."""
        subprocess.run(["fsfreeze", "-f", self.path], check=True, capture_output=True)

    def thaw(self) -> None:
        """Let go what hangs."""
        subprocess.run(["fsfreeze", "-u", self.path], check=True, capture_output=True)


def _mounted_by(path: Path) -> list[str]:
    """Return the command lines of processes in whose namespace something is mounted there."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if f" {path} " in (process / "mountinfo").read_text():
                found.append((process / "cmdline").read_text().replace("\0", " ")[:300])
        except OSError:
            pass  # it ended
    return found


def _run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
