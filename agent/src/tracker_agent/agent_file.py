"""The spools themselves, and what the agent tells training processes there: <spool>/agent.json, and a lock
that says an agent runs.

A process finds the lock on <spool>/agent.lock held (F_GETLK) and knows that someone will ship what it
writes. Everyone may write into the system's spool, so nothing that lies there under these names is
trusted, and only the owner of the spool puts them there.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import stat
from pathlib import Path
from typing import Any

from tracker.protocol.layout import AGENT_FILE

from .config_file import refusal
from .settings import Config

LOCK_FILE = "agent.lock"
_MODE = 0o644


def ensure_spools(config: Config) -> None:
    """Create missing spools. Raise ConfigError when one cannot be used."""
    for spool in config.spools:
        try:
            spool.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.listdir(spool)
        except OSError as error:
            raise refusal(
                f"cannot use the spool {spool}: {error.strerror or error}",
                f"the agent's user (uid {os.geteuid()}) must be able to read it (agent.spools, --spool)",
                config.sources.get(("agent", "spools")),
                "agent.spools",
            ) from error


class AgentFile:
    """The announcement in one spool. Keeps the lock until close().

    The lock is a POSIX lock: if anything in this process opened and closed the file, it would be gone.
    """

    def __init__(self, spool: Path) -> None:
        self.spool = spool
        self.problem = ""
        self._lock_fd = -1

    def announce(self, content: dict[str, Any]) -> None:
        """Take the lock and write the file. What hinders it stands in `problem`; shipping needs neither."""
        try:
            if self._lock_fd < 0:
                self._lock_fd = self._take_lock()
            self._write(content)
            self.problem = ""
        except OSError as error:
            self.problem = (
                f"cannot write {error.filename or self.spool}: {error.strerror or error}; runs are shipped, "
                "but training processes cannot see that an agent runs"
            )
        except _ElsewhereError as error:
            self.problem = str(error)

    def close(self) -> None:
        """Drop the lock. The file stays: it tells later runs where their page will be."""
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1

    def _take_lock(self) -> int:
        owner = os.stat(self.spool).st_uid
        if owner != os.geteuid() and os.geteuid() != 0:
            raise _ElsewhereError(
                f"{self.spool} belongs to uid {owner}: only an agent of that user announces itself there"
            )
        path = self.spool / LOCK_FILE
        for _ in range(2):
            try:
                fd = os.open(
                    path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, _MODE
                )
            except OSError as error:
                if error.errno != errno.ELOOP:
                    raise
                os.unlink(path)
                continue
            try:
                status = os.fstat(fd)
                ours = stat.S_ISREG(status.st_mode) and status.st_nlink == 1
                if ours and status.st_uid == os.geteuid():
                    os.fchmod(fd, _MODE)
                    fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    return fd
            except BlockingIOError as error:
                os.close(fd)
                if _is_write_locked(path):
                    raise _ElsewhereError(
                        f"another agent serves {self.spool} already; one is enough"
                    ) from error
                # Whoever may read the file can hold a read lock on it, to hinder us: take another file.
            except OSError:
                os.close(fd)
                raise
            else:
                os.close(fd)
            os.unlink(path)
        raise _ElsewhereError(f"{path} keeps being taken by someone else")

    def _write(self, content: dict[str, Any]) -> None:
        path = self.spool / AGENT_FILE
        temporary = self.spool / f".{AGENT_FILE}.{os.getpid()}"
        try:
            os.unlink(temporary)
        except FileNotFoundError:
            pass
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, _MODE)
        try:
            with open(fd, "w", encoding="utf-8") as opened:
                os.fchmod(fd, _MODE)
                json.dump(content, opened)
                opened.write("\n")
            os.replace(temporary, path)
        except OSError:
            os.unlink(temporary)
            raise


class _ElsewhereError(Exception):
    """Someone else's to announce."""


def _is_write_locked(path: Path) -> bool:
    """Return whether an agent holds the lock: a write lock needs the right to write the file."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        # A read lock is granted beside other read locks, and refused beside a write lock.
        fcntl.lockf(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False
