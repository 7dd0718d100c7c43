"""DataDirectory: where one server keeps everything, and the lock that keeps a second one out.

<data>/tracker.db     accounts, runs, points
<data>/blobs/         files by project and digest
<data>/admin-key      the first admin key, mode 0600
<data>/life           tells a database that was put back from a backup (store/epoch.py)
<data>/url            where the server that runs here is reached
<data>/server.lock    held while a server runs
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import structlog

from .store.epoch import Mark

log = structlog.get_logger()


class DataDirectoryError(Exception):
    """The directory cannot be used; the message says why and what to do."""


class DataDirectory:
    """Paths within a data directory."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.blobs = self.path / "blobs"
        self.admin_key = self.path / "admin-key"
        self._database = self.path / "tracker.db"
        self._url = self.path / "url"
        self._life = self.path / "life"
        self._lock_fd: int | None = None
        self._life_fd: int | None = None
        self._life_failed = False
        self._mark: Mark | None = None

    @property
    def database_url(self) -> str:
        """Return the address of the embedded database."""
        return f"sqlite:///{self._database}"

    def ensure_exists(self) -> None:
        """Make the directory, for its owner only. Raise DataDirectoryError."""
        try:
            self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise DataDirectoryError(
                f"cannot make the data directory {self.path}: {error.strerror}; choose another --data"
            ) from error
        if not os.access(self.path, os.R_OK | os.W_OK | os.X_OK):
            raise DataDirectoryError(
                f"cannot write to the data directory {self.path}; change its owner or choose another --data"
            )

    def check_in_use(self) -> None:
        """Raise DataDirectoryError unless a server has kept data here before."""
        if not self._database.exists():
            raise DataDirectoryError(
                f"{self.path} holds no Tracker data; "
                f"start the server once: tracker-server run --data {self.path}"
            )

    def lock(self) -> None:
        """Keep other servers out until this process ends. Raise DataDirectoryError when one runs."""
        fd = os.open(self.path / "server.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(fd)
            raise DataDirectoryError(
                f"another tracker-server is running on {self.path}; stop it or choose another --data"
            ) from error
        self._lock_fd = fd

    def write_back(self) -> None:
        """Have the database on disk before anything is acknowledged on top of it.

        What was put back from a backup a moment ago may still be in memory only, and the commits that
        follow sync nothing but what they write themselves.
        """
        for path in (*self.path.glob(self._database.name + "*"), self.path):
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)

    def unlock(self) -> None:
        """Let another server in. May be called twice."""
        if self._life_fd is not None:
            os.close(self._life_fd)
            self._life_fd = None
        if self._lock_fd is not None:
            os.close(self._lock_fd)
            self._lock_fd = None

    def write_admin_key(self, key: str) -> None:
        """Keep the first admin key where only the server's own user can read it."""
        _replace(self.admin_key, key + "\n")

    def write_life(self, mark: Mark) -> None:
        """Note which start of the database this was."""
        _replace(self._life, str(mark))
        self._mark = mark
        self._life_fd = os.open(self._life, os.O_WRONLY | os.O_CLOEXEC)

    def note_commit(self, commits: int) -> None:
        """Note what was committed, in memory: only what comes after a restore of the database reads it."""
        assert self._life_fd is not None
        assert self._mark is not None
        try:
            os.pwrite(self._life_fd, str(self._mark._replace(commits=commits)).encode(), 0)
        except OSError as error:
            if not self._life_failed:
                log.warning("cannot note commits", file=str(self._life), reason=error.strerror)
            self._life_failed = True
        else:
            self._life_failed = False

    def try_life(self) -> Mark | None:
        """Return what the last server noted last."""
        return Mark.parse(_try_read(self._life) or "")

    def write_url(self, url: str) -> None:
        """Note where the server is reached."""
        _replace(self._url, url + "\n")

    def try_url(self) -> str | None:
        """Return where the server was last reached."""
        return _try_read(self._url)


def _try_read(path: Path) -> str | None:
    try:
        return path.read_text().strip() or None
    except (OSError, UnicodeDecodeError):
        return None


def _replace(path: Path, text: str) -> None:
    temporary = path.with_name(path.name + ".new")
    temporary.unlink(missing_ok=True)
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(fd)
    temporary.replace(path)
