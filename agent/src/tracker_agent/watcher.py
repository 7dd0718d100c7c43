"""The only door to watchdog: a hint that something changed in a directory. Never more than a hint.

Events get lost (overflow), cannot be had (no watches left) or never come (network file systems), so the
scanner finds everything by itself. Each watch is armed for one event: a busy run costs one event, not one
per record.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any

try:
    from watchdog.observers.inotify_c import CallbackId, InotifyConstants, InotifyFD, Mask, WatchDescriptor
except ImportError:  # not Linux, or a watchdog without one shared descriptor
    InotifyFD = None  # type: ignore[assignment,misc]

#: More directories than this are left to the scanner.
WATCHES_MAX = 4096

#: File systems that take watches and then send no events for what other machines write.
SILENT_FILE_SYSTEMS = frozenset(
    ("nfs", "nfs4", "cifs", "smb3", "smbfs", "lustre", "gpfs", "beegfs", "ceph", "afs", "9p", "glusterfs",
     "pvfs2", "orangefs", "virtiofs", "wekafs", "panfs")
)  # fmt: skip


class Watcher:
    """Calls changed(path), in a thread of its own, once for each directory that was armed and then
    changed."""

    def __init__(self, changed: Callable[[str], None], watches_max: int = WATCHES_MAX) -> None:
        self.problem: str | None = None  #: why there are no hints (any more)
        self._changed = changed
        self._watches_max = watches_max
        self._lock = threading.Lock()
        self._armed: dict[str, _Once] = {}
        self._inotify: Any = None
        if InotifyFD is None:
            self.problem = "this watchdog has no inotify for us"
            return
        try:
            self._inotify = InotifyFD()
            self._inotify.daemon = True
            self._inotify.start()
        except OSError as error:
            self.problem = f"inotify cannot be used: {error}"

    def arm(self, path: str) -> bool:
        """Ask for one hint about a directory. Look at it once more afterwards: it may have changed before.

        May block as long as the file system does. False: there will be no hint.
        """
        if self._inotify is None or self.problem is not None:
            return False
        with self._lock:
            if path in self._armed:
                return True
            if len(self._armed) >= self._watches_max:
                return False
            callback = self._armed[path] = _Once(path, self._fired)
        mask = (
            InotifyConstants.IN_MODIFY
            | InotifyConstants.IN_CREATE
            | InotifyConstants.IN_MOVED_TO
            | InotifyConstants.IN_DELETE
            | InotifyConstants.IN_ONLYDIR
            | InotifyConstants.IN_DONT_FOLLOW
            | InotifyConstants.IN_ONESHOT
        )
        try:
            callback.wd = self._inotify.add_callback(
                os.fsencode(path), Mask(mask), callback, CallbackId(id(callback))
            )
        except FileNotFoundError:
            self._forget(path)
            return False
        except OSError as error:
            self._forget(path)
            # Out of watches or instances: the scanner does without, and so do we from now on.
            self.problem = f"no further watches: {error}"
            return False
        return True

    def disarm(self, path: str) -> None:
        """Await no hint about a directory any more."""
        with self._lock:
            callback = self._armed.pop(path, None)
        if callback is not None and callback.wd is not None and self._inotify is not None:
            self._inotify.remove_callbacks([(callback.wd, CallbackId(id(callback)))])

    def _fired(self, path: str) -> None:
        if self._forget(path):
            self._changed(path)

    def _forget(self, path: str) -> bool:
        with self._lock:
            return self._armed.pop(path, None) is not None

    @property
    def armed(self) -> int:
        """Directories that a hint is awaited for."""
        return len(self._armed)

    def close(self) -> None:
        """Stop. No hint comes afterwards."""
        with self._lock:
            self._armed.clear()
        if self._inotify is not None:
            self._inotify.stop()
            self._inotify.join(5.0)
            self._inotify = None


class _Once:
    """What watchdog calls. Any event, the end of the watch and an overflow all mean: look there."""

    def __init__(self, path: str, fired: Callable[[str], None]) -> None:
        self.wd: WatchDescriptor | None = None
        self._path = path
        self._fired = fired

    def on_event(self, _event: object) -> None:
        self._fired(self._path)

    def on_watch_deleted(self, _wd: WatchDescriptor) -> None:
        self._fired(self._path)

    def on_queue_overflow(self) -> None:
        self._fired(self._path)


def file_system_type(path: str, mountinfo: str = "/proc/self/mountinfo") -> str:
    """Return the type of the file system a path is on (proc_pid_mountinfo(5)), "" when unknown."""
    real = os.path.realpath(path)
    best, found = "", ""
    try:
        with open(mountinfo, encoding="utf-8", errors="surrogateescape") as file:
            lines = file.read().splitlines()
    except OSError:
        return ""
    for line in lines:
        before, _, after = line.partition(" - ")
        fields = before.split(" ")
        if len(fields) < 5:
            continue
        mount = fields[4].replace("\\040", " ")
        inside = real == mount or real.startswith(mount.rstrip("/") + "/")
        if inside and len(mount) >= len(best):
            best, found = mount, after.split(" ")[0]
    return found


def sends_events(path: str) -> bool:
    """Return whether hints may be expected for a path."""
    kind = file_system_type(path)
    return kind not in SILENT_FILE_SYSTEMS and not kind.startswith("fuse")
