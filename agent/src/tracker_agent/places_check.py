"""What is wrong with the places that a configuration names: the state directory, the spools, its file.

What is seen here is as true as the moment: check-config says it beforehand, the agent again at its start.
"""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from tracker.protocol.layout import SYSTEM_SPOOL

from .config_file import WARNING, Problem, Source
from .setting_values import MIB
from .settings import Config
from .watcher import SILENT_FILE_SYSTEMS, file_system_type

#: Less free space than this fills up in no time.
FREE_BYTES_MIN = 64 * MIB
_ACL = "system.posix_acl_default"
#: Linux's form of an ACL: a version, then entries of tag, permissions, id.
_ACL_VERSION, _ACL_ENTRY = struct.Struct("<I"), struct.Struct("<HHI")
_GROUP_OWNER, _NAMED_USER, _NAMED_GROUP, _OTHERS = 0x04, 0x02, 0x08, 0x20
_ALL = 7
#: What packaging/tmpfiles.d sets up.
_ACL_REMEDY = (
    "run: setfacl -m d:u::rwx,d:g::---,d:g:GROUP:rwx,d:m::rwx,d:o::--- {path} (GROUP: that of the agent), "
    "before users write there"
)
_MOVE = "move it away or choose another place"


@dataclass(frozen=True)
class Viewer:
    """Who will run the agent, and so has to get into the places."""

    uid: int
    groups: frozenset[int]

    @classmethod
    def current(cls) -> Viewer:
        """Return who this process is."""
        return cls(os.geteuid(), frozenset([os.getegid(), *os.getgroups()]))


def place_problems(config: Config, viewer: Viewer) -> list[str]:
    """Return a sentence for each thing that would keep the agent from working, or endanger users' data."""
    return [str(each) for each in look_at_places(config, viewer)]


def look_at_places(config: Config, viewer: Viewer) -> list[Problem]:
    """Return what is wrong with the places. Errors keep the agent from starting."""
    state, spools = config.sources.get(("agent", "state_dir")), config.sources.get(("agent", "spools"))
    found = [
        replace(each, source=state, setting="agent.state_dir")
        for each in _state_problems(config.state_dir, viewer)
    ]
    for spool in config.spools:
        found += [
            replace(each, source=spools, setting="agent.spools") for each in _spool_problems(spool, viewer)
        ]
    return [*_file_problems(config.file), *found]


def _warning(what: str, todo: str) -> Problem:
    return Problem(what, todo, level=WARNING)


def _file_problems(file: Path | None) -> Iterator[Problem]:
    try:
        writable = file is not None and file.stat().st_mode & stat.S_IWOTH
    except OSError:
        return
    if writable:
        what = f"every user can change {file}, and so send everybody's data elsewhere"
        yield Problem(what, f"run: chmod o= {file}", Source(str(file)), level=WARNING)


def _state_problems(path: Path, viewer: Viewer) -> Iterator[Problem]:
    name = f"agent.state_dir {path}"
    status = yield from _try_stat(name, path)
    if status is None:
        return
    if viewer.uid not in (0, status.st_uid):
        yield Problem(
            f"{name} belongs to uid {status.st_uid}, not to the agent's user (uid {viewer.uid})",
            f"run: chown -R {viewer.uid} {path}",
        )
    if status.st_mode & 0o022:
        yield _warning(f"others may write into {name}", f"run: chmod go-w {path}")
    yield from _disk_problems(name, path)
    kind = file_system_type(str(path))
    if kind in SILENT_FILE_SYSTEMS:
        yield _warning(
            f"{name} is on a network file system ({kind}), where locks may not hold and writes hang",
            "choose a directory on a disk of this machine",
        )


def _spool_problems(path: Path, viewer: Viewer) -> Iterator[Problem]:
    name = f"the spool {path}"
    status = yield from _try_stat(name, path)
    if status is None:
        return
    if not os.access(path, os.R_OK | os.X_OK):
        yield Problem(
            f"the agent's user (uid {viewer.uid}) cannot list {name}",
            f"run: chown {viewer.uid} {path}; the package's tmpfiles.d has it so for {SYSTEM_SPOOL}",
        )
    elif viewer.uid not in (0, status.st_uid):
        yield _warning(
            f"{name} belongs to uid {status.st_uid}, not to the agent's user (uid {viewer.uid}): training "
            "processes cannot see that an agent runs",
            f"run: chown {viewer.uid} {path}",
        )
    shared = bool(status.st_mode & 0o002)
    if shared and not status.st_mode & stat.S_ISVTX:
        yield _warning(f"users may remove each other's directories in {name}", f"run: chmod +t {path}")
    if shared and status.st_mode & 0o004:
        yield _warning(f"every user can list {name}", f"run: chmod o-r {path}")
    if not shared and str(path) == SYSTEM_SPOOL:
        yield _warning(
            f"users may not write into {name}", "run: systemd-tmpfiles --create tracker-agent.conf"
        )
    if shared:
        yield from _acl_problems(path, viewer)
    yield from _disk_problems(name, path)


def _try_stat(name: str, path: Path) -> Generator[Problem, None, os.stat_result | None]:
    """Return the state of a directory that is there, else None and why that is a problem."""
    try:
        status = path.stat()
    except FileNotFoundError:
        yield from _creation_problems(name, path)
        return None
    except OSError as error:
        yield Problem(f"{name}: {error.strerror}", "the agent's user must be able to enter it")
        return None
    if not stat.S_ISDIR(status.st_mode):
        yield Problem(f"{name} is no directory", _MOVE)
        return None
    return status


def _disk_problems(name: str, path: Path) -> Iterator[Problem]:
    """Look at the file system below a directory."""
    try:
        disk = os.statvfs(path)
    except OSError as error:
        yield Problem(f"{name}: {error.strerror}", "look at its file system")
        return
    if disk.f_flag & os.ST_RDONLY:
        yield Problem(
            f"{name} is on a file system that is mounted read-only",
            "mount it writable, or choose another place",
        )
        return
    free = disk.f_bavail * disk.f_frsize
    if free < FREE_BYTES_MIN:
        yield _warning(
            f"{name} has {free // MIB} MiB left on its disk",
            "make room: without it runs stop being recorded",
        )
    elif disk.f_files and disk.f_favail * 100 < disk.f_files:
        yield _warning(
            f"{name} has {disk.f_favail} inodes left on its disk", "remove small files: a run needs some"
        )


def _acl_problems(path: Path, viewer: Viewer) -> Iterator[Problem]:
    """Look at the default ACL of a spool for all users."""
    remedy = _ACL_REMEDY.format(path=path)
    entries = read_default_acl(path)
    if not entries:
        shut_out = "" if viewer.uid == 0 else ", and the agent may be shut out"
        said = f"the spool {path} has no default ACL: each user's umask decides who reads his runs{shut_out}"
        yield _warning(said, remedy)
        return
    if any(permissions for tag, permissions, _ in entries if tag in (_OTHERS, _GROUP_OWNER)):
        yield _warning(f"the default ACL of the spool {path} lets other users in", remedy)
    named = {_NAMED_USER: {viewer.uid}, _NAMED_GROUP: viewer.groups}
    mine = any(who in named.get(tag, ()) and permissions == _ALL for tag, permissions, who in entries)
    if viewer.uid != 0 and not mine:
        yield _warning(
            f"the default ACL of the spool {path} does not let the agent (uid {viewer.uid}) read and remove "
            "what users write",
            remedy,
        )


def read_default_acl(path: Path) -> list[tuple[int, int, int]]:
    """Return (tag, permissions, uid or gid) of a directory's default ACL, nothing where there is none."""
    try:
        data = os.getxattr(path, _ACL)
    except OSError:
        return []
    body = data[_ACL_VERSION.size :]
    return list(_ACL_ENTRY.iter_unpack(body[: len(body) // _ACL_ENTRY.size * _ACL_ENTRY.size]))


def _creation_problems(name: str, path: Path) -> Iterator[Problem]:
    """Say why a directory that is missing cannot be made; the agent makes it at its start."""
    parent = path.parent
    while not parent.exists() and parent != parent.parent:
        parent = parent.parent
    if not os.access(parent, os.W_OK | os.X_OK):
        yield Problem(
            f"{name} does not exist and cannot be made in {parent}", "create it for the agent's user"
        )
    elif str(path) == SYSTEM_SPOOL:
        yield _warning(
            f"{name} does not exist: the agent would make it for its own user alone",
            "run: systemd-tmpfiles --create tracker-agent.conf",
        )
