"""One agent per state directory: a lock (flock) on a file in it that holds the owner's pid."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Self

LOCK_FILE = "agent.lock"


class StateError(Exception):
    """The state directory cannot be used. The message says why and what to do."""


class StateLock:
    """Holds the state directory until close(), or the end of the process."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    @classmethod
    def take(cls, state_dir: Path) -> Self:
        """Create the directory where needed and lock it. Raise StateError."""
        try:
            state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            fd = os.open(state_dir / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise StateError(
                f"cannot use the state directory {state_dir}: {error.strerror or error}; the agent's user "
                f"(uid {os.geteuid()}) must be able to write there, or choose another with agent.state_dir "
                "or --state-dir"
            ) from error
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            owner = _read_owner(fd)
            os.close(fd)
            raise StateError(
                f"an agent{f' (pid {owner})' if owner else ''} already runs with the state directory "
                f"{state_dir}; stop it first, or give this one a directory of its own with --state-dir"
            ) from error
        except OSError as error:
            os.close(fd)
            raise StateError(
                f"cannot lock {state_dir / LOCK_FILE}: {error.strerror or error}; "
                "choose a state directory on a local file system"
            ) from error
        try:
            os.ftruncate(fd, 0)
            os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        except OSError:
            # The pid is for the message above only; a full disk must not keep the agent from starting.
            pass
        return cls(fd)

    def close(self) -> None:
        """Let go of the directory."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _read_owner(fd: int) -> str:
    try:
        text = os.pread(fd, 32, 0).decode("ascii", "replace").strip()
    except OSError:
        return ""
    return text if text.isdigit() else ""
