"""Memory cgroups: which one a process is in, who limits it, and how often the kernel killed in it.

Knows both versions. Reads only where the kernel itself says that a process is, below the mounts this process
can see; what lies elsewhere is said to be out of sight.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass

#: A limit that is none: the greatest page counter of version 1, in bytes.
_NO_LIMIT = 1 << 62
_BYTES_MAX = 4 * 1024 * 1024
_DEPTH_MAX = 64

#: (root, mount point) of the mounts with memory groups, by version.
Mounts = dict[int, list[tuple[str, str]]]


@dataclass(frozen=True, slots=True)
class Group:
    """A memory cgroup. path is as the kernel names it, directory where it is seen here."""

    version: int
    path: str
    directory: str
    mount: str

    def upward(self) -> Iterator[str]:
        """Yield its directory and those of its ancestors, up to the mount."""
        directory = self.directory
        for _ in range(_DEPTH_MAX):
            yield directory
            if directory == self.mount or len(directory) <= len(self.mount):
                return
            directory = os.path.dirname(directory)


class MemoryGroups:
    """Finds groups by pid. `proc` and the mounts come from elsewhere in tests."""

    def __init__(self, proc: str = "/proc") -> None:
        self._proc = proc
        self._mounts: Mounts | None = None

    def of(self, pid: int) -> Group | None:
        """Return the memory cgroup of a process, None where it cannot be seen."""
        membership = _read(f"{self._proc}/{pid}/cgroup")
        if membership is None:
            return None
        if self._mounts is not None:
            group = find_group(membership, self._mounts)
            if group is not None and os.path.isdir(group.directory):
                return group
        self._mounts = parse_mounts(_read(f"{self._proc}/self/mountinfo") or "")
        return find_group(membership, self._mounts)

    def kills(self, group: Group) -> dict[str, int]:
        """Return how many processes were killed for memory: by directory, the group and its ancestors.

        Version 1 counts where the process was, version 2 in all groups above as well.
        """
        found = {}
        for directory in group.upward() if group.version == 2 else [group.directory]:
            count = read_kills(directory, group.version)
            if count is not None:
                found[directory] = count
        return found

    def limit(self, group: Group) -> tuple[str, int] | None:
        """Return (directory, bytes) of the nearest group that has a limit."""
        name = "memory.max" if group.version == 2 else "memory.limit_in_bytes"
        for directory in group.upward():
            text = (_read(f"{directory}/{name}") or "").strip()
            if text.isdigit() and int(text) < _NO_LIMIT:
                return directory, int(text)
        return None


def find_group(membership: str, mounts: Mounts) -> Group | None:
    """Return the memory cgroup that /proc/<pid>/cgroup names, where the mounts show it.

    A hybrid host has the memory controller in version 1 and no use for the other.
    """
    paths = {}
    for line in membership.splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if "memory" in controllers.split(","):
            paths[1] = path
        elif number == "0" and not controllers:
            paths[2] = path
    for version, path in sorted(paths.items()):
        if ".." in path.split("/"):
            continue  # outside of our cgroup namespace
        for root, point in mounts[version]:
            below = _below(path.removesuffix(" (deleted)"), root)
            if below is not None:
                return Group(version, path, os.path.normpath(point + below), os.path.normpath(point))
    return None


def read_kills(directory: str, version: int) -> int | None:
    """Return how many processes were killed in a group, None where that cannot be read."""
    text = _read(f"{directory}/{'memory.events' if version == 2 else 'memory.oom_control'}")
    if text is None:
        return None
    for line in text.splitlines():
        name, _, value = line.partition(" ")
        if name == "oom_kill" and value.isdigit():
            return int(value)
    return None


def parse_mounts(mountinfo: str) -> Mounts:
    """Return (root, mount point) of the mounts with memory groups, by version."""
    found: Mounts = {1: [], 2: []}
    for line in mountinfo.splitlines():
        mount, _, filesystem = line.partition(" - ")
        fields, kinds = mount.split(" "), filesystem.split(" ")
        if len(fields) < 5 or len(kinds) < 3:
            continue
        if kinds[0] == "cgroup2":
            found[2].append((_unescape(fields[3]), _unescape(fields[4])))
        elif kinds[0] == "cgroup" and "memory" in kinds[2].split(","):
            found[1].append((_unescape(fields[3]), _unescape(fields[4])))
    return found


def _below(path: str, root: str) -> str | None:
    if root == "/":
        return path
    if path == root or path.startswith(root + "/"):
        return path[len(root) :]
    return None


def _unescape(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)


def _read(path: str) -> str | None:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        with open(fd, "rb") as file:
            return file.read(_BYTES_MAX).decode("utf-8", "surrogateescape")
    except OSError:
        return None
