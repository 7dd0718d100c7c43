"""Where the files of a process's control groups are: in version 1, version 2 or both (cgroups(7))."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from .cgroup_names import GroupName, name_group
from .kernel import Kernel

_DEPTH_MAX = 64
#: What stands for version 2 where controllers stand otherwise.
UNIFIED = ""


class Mount(NamedTuple):
    """A mounted hierarchy: which group is its root, and where it is, as a Kernel names it."""

    version: int
    root: str
    point: str


class Place(NamedTuple):
    """A group's directory in one hierarchy, as a Kernel names it, below the mount's."""

    version: int
    directory: str
    top: str
    #: Of the very group that the process is in, which may lie below.
    leaf: str

    def upward(self) -> Iterator[str]:
        """Yield its directory and those above it, up to the mount."""
        return _upward(self.directory, self.top)

    def down_to_leaf(self) -> Iterator[str]:
        """Yield the directories from the process's own group up to this one."""
        for directory in _upward(self.leaf, self.top):
            yield directory
            if directory == self.directory:
                return


class Membership(NamedTuple):
    """The named group that a process is in, and where it is seen, by controller (UNIFIED: version 2)."""

    name: GroupName
    places: Mapping[str, Place]

    def place(self, *controllers: str) -> Place | None:
        """Return where the first of these controllers is, in version 1, else version 2."""
        for controller in (*controllers, UNIFIED):
            if controller in self.places:
                return self.places[controller]
        return None


class Places:
    """Finds groups by pid. Mounts are read again when a group is not found where they say."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._mounts: dict[str, list[Mount]] | None = None

    def of(self, pid: int) -> Membership | None:
        """Return the group of a process: None where it ended, or its group is not to be seen here."""
        text = self._kernel.text(f"proc/{pid}/cgroup")
        if not text:
            return None
        if self._mounts is None:
            self._mounts = parse_mounts(self._kernel.text("proc/self/mountinfo") or "")
        return find_membership(text, self._mounts)

    def refresh(self) -> None:
        """Read the mounts again with the next question."""
        self._mounts = None


def parse_mounts(mountinfo: str) -> dict[str, list[Mount]]:
    """Return the mounted hierarchies by controller, UNIFIED for version 2."""
    found: dict[str, list[Mount]] = {}
    for line in mountinfo.splitlines():
        mount, _, filesystem = line.partition(" - ")
        fields, kinds = mount.split(" "), filesystem.split(" ")
        if len(fields) < 5 or len(kinds) < 3:
            continue
        root, point = _unescape(fields[3]), _unescape(fields[4]).lstrip("/")
        if kinds[0] == "cgroup2":
            found.setdefault(UNIFIED, []).append(Mount(2, root, point))
        elif kinds[0] == "cgroup":
            for controller in kinds[2].split(","):
                found.setdefault(controller, []).append(Mount(1, root, point))
    return found


def find_membership(text: str, mounts: Mapping[str, list[Mount]]) -> Membership | None:
    """Return the group that /proc/<pid>/cgroup names.

    Hierarchies of version 1 may have the process in different groups (a job that limits memory alone is not
    in the others): only those count where it is in the named one.
    """
    paths: dict[str, str] = {}
    for line in text.splitlines():
        number, _, rest = line.partition(":")
        controllers, colon, path = rest.partition(":")
        if not colon:
            continue
        for controller in controllers.split(",") if number != "0" else (UNIFIED,):
            paths[controller] = path
    name = _best_name(paths)
    if name is None:
        return None
    places = {}
    for controller, path in paths.items():
        named = name_group(path)
        if named is None or (named.kind, named.id) != (name.kind, name.id):
            continue
        for mount in mounts.get(controller, ()):
            directory, leaf = _below(named.path, mount), _below(path.removesuffix(" (deleted)"), mount)
            if directory is not None and leaf is not None:
                places[controller] = Place(mount.version, directory, mount.point, leaf)
                break
    return Membership(name, places) if places else None


def _best_name(paths: Mapping[str, str]) -> GroupName | None:
    """Return the name that says most: a job before the unit of the daemon that started it."""
    ranks = ("slurm job", "pod", "container", "unit", "group")
    order = ("memory", "cpuacct", "cpu", UNIFIED)
    controllers = sorted(paths, key=lambda each: order.index(each) if each in order else len(order))
    names = [name for each in controllers if (name := name_group(paths[each])) is not None]
    return min(names, key=lambda name: ranks.index(name.kind), default=None)


def _below(path: str, mount: Mount) -> str | None:
    if mount.root == "/":
        inside = path
    elif path == mount.root or path.startswith(mount.root + "/"):
        inside = path[len(mount.root) :]
    else:
        return None
    return os.path.normpath(mount.point + inside)


def _upward(directory: str, top: str) -> Iterator[str]:
    for _ in range(_DEPTH_MAX):
        yield directory
        if len(directory) <= len(top):
            return
        directory = os.path.dirname(directory)


def _unescape(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)
