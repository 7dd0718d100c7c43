"""Hands a user's API key to the agent: a file in his own directory of the spool, never a run's record.

<spool>/<uid>/credentials, described in docs/record-format.md. Keys of several accounts and servers stand side
by side in it. Only init() with a key and `tracker login` come here.
"""

import errno
import json
import os
import stat
import time
from typing import Any, Dict, List

from ._names import random_id
from ._spool import ensure_user_directory, own_directories
from .protocol.layout import CREDENTIALS_FILE

VERSION = 1
KEYS_MAX = 64
_FILE_BYTES_MAX = 64 * 1024
#: Ranks that start together wait for one another so long, then write without.
_LOCK_TRIES_MAX = 50
_LOCK_PAUSE_S = 0.02

Entry = Dict[str, str]


def store_key(root: str, server: str, account: str, key: str) -> str:
    """Keep a key where the agent of this spool finds it; return the file's path. Raise OSError.

    server "": the agent's default server, whichever that is. account "": for runs that name none.
    """
    path = os.path.join(ensure_user_directory(root), CREDENTIALS_FILE)
    entry = {"server": server, "account": account, "key": key}
    if entry in _read(path):
        return path
    lock = _take_lock(os.path.join(os.path.dirname(path), ".%s.lock" % CREDENTIALS_FILE))
    try:
        others = [each for each in _read(path) if (each["server"], each["account"]) != (server, account)]
        _write(path, (others + [entry])[-KEYS_MAX:], _mode(root))
    finally:
        if lock is not None:
            os.close(lock)
    return path


def read_keys(root: str) -> List[Entry]:
    """Return the keys that this user left for the agent of a spool, the newest last."""
    return [
        entry
        for directory in own_directories(root)
        for entry in _read(os.path.join(directory, CREDENTIALS_FILE))
    ]


def _read(path: str) -> List[Entry]:
    """Return the entries of a file, none where there is no such file or it makes no sense."""
    try:
        fd = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    except OSError:
        return []
    try:
        document = json.loads(os.read(fd, _FILE_BYTES_MAX).decode("utf-8"))
    except (OSError, ValueError, RecursionError):
        return []
    finally:
        os.close(fd)
    if not isinstance(document, dict):
        return []
    if "keys" not in document:  # the first form: {server: key}
        listed: List[Any] = [{"server": url, "key": key} for url, key in document.items()]
    else:
        listed = document["keys"] if isinstance(document["keys"], list) else []
    entries = [
        {name: each.get(name, "") for name in ("server", "account", "key")}
        for each in listed
        if isinstance(each, dict)
    ]
    return [each for each in entries if all(isinstance(value, str) for value in each.values())]


def _write(path: str, entries: List[Entry], mode: int) -> None:
    """Replace the file as a whole: a reader sees the old keys or the new ones."""
    temporary = "%s.%s" % (path, random_id())
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0), mode)
    try:
        try:
            data = json.dumps({"version": VERSION, "keys": entries}, indent=1).encode("utf-8") + b"\n"
            if os.write(fd, data) != len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), temporary)
            os.fsync(fd)
        finally:
            os.close(fd)
        os.replace(temporary, path)
    except OSError:
        os.unlink(temporary)
        raise


def _mode(root: str) -> int:
    """Return who may read the file: its owner, and the agent where the spool's default ACL names it.

    With such an ACL the bits of the group are the mask for the agent's entry; without it they would let the
    user's whole group read the key. An ACL in a spool of one's own is not ours to interpret.
    """
    try:
        shared = os.stat(root).st_uid != os.geteuid() and bool(os.getxattr(root, "system.posix_acl_default"))
    except (OSError, AttributeError):
        shared = False
    return stat.S_IRUSR | stat.S_IWUSR | (stat.S_IRGRP if shared else 0)


def _take_lock(path: str) -> "Any":
    """Return the descriptor of the lock, None where it is not to be had: then the last writer wins."""
    try:
        import fcntl
    except ImportError:
        return None  # Windows
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError:
        return None
    for _ in range(_LOCK_TRIES_MAX):
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return fd
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                break  # a file system without locks
        time.sleep(_LOCK_PAUSE_S)
    os.close(fd)
    return None
