"""What is wrong with the places that a configuration names: the state directory and the spools.

For check-config: what is seen here is as true as the moment, so the agent itself looks again at its start.
"""

from __future__ import annotations

import os
import stat
import struct
from dataclasses import dataclass
from pathlib import Path

from .settings import Config

_ACL = "system.posix_acl_default"
#: Linux's form of an ACL: a version, then entries of tag, permissions, id.
_ACL_VERSION, _ACL_ENTRY = struct.Struct("<I"), struct.Struct("<HHI")
_GROUP_OWNER, _NAMED_USER, _NAMED_GROUP, _OTHERS = 0x04, 0x02, 0x08, 0x20
_ALL = 7
#: What packaging/tmpfiles.d sets up.
_ACL_REMEDY = (
    "setfacl -m d:u::rwx,d:g::---,d:g:GROUP:rwx,d:m::rwx,d:o::--- {path} (GROUP: that of the agent), before "
    "users write there"
)


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
    problems = _state_problems(config.state_dir, viewer)
    for spool in config.spools:
        problems += _spool_problems(spool, viewer)
    return problems


def _state_problems(path: Path, viewer: Viewer) -> list[str]:
    try:
        status = path.stat()
    except FileNotFoundError:
        return _creation_problems("agent.state_dir", path)
    except OSError as error:
        return [f"agent.state_dir {path}: {error.strerror}; the agent's user must be able to enter it"]
    if not stat.S_ISDIR(status.st_mode):
        return [f"agent.state_dir {path} is no directory; move it away or choose another place"]
    problems = []
    if viewer.uid not in (0, status.st_uid):
        problems.append(
            f"agent.state_dir {path} belongs to uid {status.st_uid}, not to the agent's user (uid "
            f"{viewer.uid}); run: chown -R {viewer.uid} {path}"
        )
    if status.st_mode & 0o022:
        problems.append(f"others may write into agent.state_dir {path}; run: chmod go-w {path}")
    return problems


def _spool_problems(path: Path, viewer: Viewer) -> list[str]:
    try:
        status = path.stat()
    except FileNotFoundError:
        return _creation_problems("the spool", path)
    except OSError as error:
        return [f"the spool {path}: {error.strerror}; the agent's user must be able to enter it"]
    if not stat.S_ISDIR(status.st_mode):
        return [f"the spool {path} is no directory; move it away or choose another place"]
    problems = []
    if not os.access(path, os.R_OK | os.X_OK):
        problems.append(
            f"the agent's user (uid {viewer.uid}) cannot list the spool {path}; it has to own it, as "
            "packaging/tmpfiles.d/tracker-agent.conf has it"
        )
    shared = bool(status.st_mode & 0o002)
    if shared and not status.st_mode & stat.S_ISVTX:
        problems.append(
            f"users may remove each other's directories in the spool {path}; run: chmod +t {path}"
        )
    if shared and status.st_mode & 0o004:
        problems.append(f"every user can list the spool {path}; run: chmod o-r {path}")
    if shared:
        problems += _acl_problems(path, viewer)
    return problems


def _acl_problems(path: Path, viewer: Viewer) -> list[str]:
    """Return what is wrong with the default ACL of a spool for all users."""
    remedy = _ACL_REMEDY.format(path=path)
    entries = read_default_acl(path)
    if not entries:
        shut_out = "" if viewer.uid == 0 else ", and the agent may be shut out"
        said = f"the spool {path} has no default ACL: each user's umask decides who reads his runs{shut_out}"
        return [f"{said}; run: {remedy}"]
    problems = []
    if any(permissions for tag, permissions, _ in entries if tag in (_OTHERS, _GROUP_OWNER)):
        problems.append(f"the default ACL of the spool {path} lets other users in; run: {remedy}")
    named = {_NAMED_USER: {viewer.uid}, _NAMED_GROUP: viewer.groups}
    mine = any(who in named.get(tag, ()) and permissions == _ALL for tag, permissions, who in entries)
    if viewer.uid != 0 and not mine:
        problems.append(
            f"the default ACL of the spool {path} does not let the agent (uid {viewer.uid}) read and remove "
            f"what users write; run: {remedy}"
        )
    return problems


def read_default_acl(path: Path) -> list[tuple[int, int, int]]:
    """Return (tag, permissions, uid or gid) of a directory's default ACL, nothing where there is none."""
    try:
        data = os.getxattr(path, _ACL)
    except OSError:
        return []
    body = data[_ACL_VERSION.size :]
    return list(_ACL_ENTRY.iter_unpack(body[: len(body) // _ACL_ENTRY.size * _ACL_ENTRY.size]))


def _creation_problems(what: str, path: Path) -> list[str]:
    """Return why a directory that is missing cannot be made; the agent makes it at its start."""
    parent = path.parent
    while not parent.exists() and parent != parent.parent:
        parent = parent.parent
    if os.access(parent, os.W_OK | os.X_OK):
        return []
    return [f"{what} {path} does not exist and cannot be made in {parent}: create it for the agent's user"]
