"""What lies under files/ and media/ of a run directory: which files may be sent, which not, and why.

Users own these trees and may change them while they are walked. Every step is taken from the descriptor of
the step before, and depth and number are bounded, so a walk costs a bounded time whatever is there.
"""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass, field

from .opening import Opener, Place, Refused, check_regular

TREES = ("files", "media")
#: Names that whoever writes a file may use until it is whole and renamed.
UNFINISHED_PREFIX = ".tracker-"
DEPTH_MAX = 16
FILES_MAX = 10_000
#: Names looked at in one walk, whatever they are.
NAMES_MAX = 50_000
REFUSED_MAX = 200
#: Failures that say nothing about a file: the whole walk is done again later.
PASSING = frozenset(
    (errno.EMFILE, errno.ENFILE, errno.EIO, errno.ESTALE, errno.EINTR, errno.EAGAIN, errno.ENOMEM)
)

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW


@dataclass(frozen=True, slots=True)
class Signature:
    """What tells one version of a file from another without reading it."""

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> Signature:
        """Return the signature of a file's state."""
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)

    def grew_from(self, older: Signature) -> bool:
        """Return whether this may be the same file with more behind its end."""
        return (self.device, self.inode) == (older.device, older.inode) and self.size > older.size


@dataclass(slots=True)
class FileTree:
    """What a walk found. Paths are relative to the run directory."""

    files: dict[str, Signature] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)  #: path → why it is not sent
    truncated: bool = False  #: there is more than a walk looks at
    names: int = 0


def walk_files(opener: Opener, place: Place) -> FileTree:
    """Walk a run's files. Raise Refused or OSError when the run directory itself cannot be used."""
    tree = FileTree()
    with opener.user_directory(place.root, place.user, place.uid) as user:
        for name in TREES:
            try:
                fd = opener.open_beneath(user, f"{place.name}/{name}", _DIRECTORY)
            except FileNotFoundError:
                continue
            except OSError as error:
                if error.errno in PASSING:
                    raise
                _refuse(tree, name, _why(error))
                continue
            try:
                _walk(opener, fd, name, place.uid, tree, 1)
            finally:
                os.close(fd)
    return tree


def _walk(opener: Opener, directory: int, path: str, uid: int, tree: FileTree, depth: int) -> None:
    owner = os.fstat(directory).st_uid
    if owner != uid:
        _refuse(tree, path, f"belongs to uid {owner}, not to uid {uid}")
        return
    with os.scandir(directory) as listing:
        for item in listing:
            tree.names += 1
            if tree.names > NAMES_MAX or len(tree.files) >= FILES_MAX:
                tree.truncated = True
                return
            if item.name.startswith(UNFINISHED_PREFIX):
                continue
            below = f"{path}/{item.name}"
            try:
                item.name.encode()
            except UnicodeEncodeError:
                _refuse(tree, ascii(below)[1:-1], "its name is not UTF-8")
                continue
            try:
                _look(opener, directory, item.name, below, uid, tree, depth)
            except FileNotFoundError:
                continue  # gone since it was listed
            except OSError as error:
                if error.errno in PASSING:
                    raise
                _refuse(tree, below, _why(error))


def _look(opener: Opener, directory: int, name: str, path: str, uid: int, tree: FileTree, depth: int) -> None:
    status = os.stat(name, dir_fd=directory, follow_symlinks=False)
    if stat.S_ISDIR(status.st_mode):
        if depth >= DEPTH_MAX:
            _refuse(tree, path, f"lies more than {DEPTH_MAX} directories deep")
            return
        fd = opener.open_beneath(directory, name, _DIRECTORY)
        try:
            _walk(opener, fd, path, uid, tree, depth + 1)
        finally:
            os.close(fd)
        return
    try:
        check_regular(status, uid)
    except Refused as error:
        _refuse(tree, path, str(error))
    else:
        tree.files[path] = Signature.of(status)


def _why(error: OSError) -> str:
    if error.errno in (errno.ELOOP, errno.ENOTDIR, errno.EXDEV):
        return "a symbolic link or special file stands in its path"
    return f"cannot be opened: {error.strerror}"


def _refuse(tree: FileTree, path: str, reason: str) -> None:
    if len(tree.refused) < REFUSED_MAX:
        tree.refused[path] = reason
    else:
        tree.truncated = True
