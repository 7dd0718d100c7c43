"""What is mounted, from /proc/self/mountinfo, and which of it has space of its own.

An agent in another mount namespace than the machine's first process reads that one's mounts, where it may.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from .kernel import Kernel

#: File systems without space of their own, or images that are full by nature.
_PSEUDO = frozenset(
    (
        *("autofs", "binfmt_misc", "bpf", "cgroup", "cgroup2", "configfs", "debugfs", "devpts", "devtmpfs"),
        *("efivarfs", "fusectl", "hugetlbfs", "mqueue", "nsfs", "proc", "pstore", "ramfs", "resctrl"),
        *("rootfs", "rpc_pipefs", "securityfs", "selinuxfs", "sysfs", "tracefs", "nfsd", "binder"),
        *("squashfs", "iso9660", "udf", "erofs", "cramfs", "fuse.snapfuse", "fuse.squashfuse"),
        *("fuse.lxcfs", "fuse.gvfsd-fuse", "fuse.portal", "fuse.dumpfs"),
    )
)
#: They show the space of what is below them.
_LAYERED = frozenset(("overlay", "aufs", "fuse.fuse-overlayfs", "fuse-overlayfs"))
#: Places of the kernel, of services, and of what runs in containers, with hundreds of mounts of a short life.
_PLACES = re.compile(
    r"/(proc|sys|dev|run|snap)(/|$)|/var/lib/(docker|containers|containerd|kubelet|lxcfs|nfs/rpc_pipefs)(/|$)"
)
#: Of those, what may well be a disk of its own.
_OWN_DISKS = re.compile(r"/var/lib/(docker|containers|containerd|kubelet)")
#: Single files that container runtimes mount from the host's disk.
_FILES = frozenset(("/etc/hosts", "/etc/hostname", "/etc/resolv.conf"))
_ESCAPE = re.compile(r"\\([0-7]{3})")
_SECRET = re.compile(r"//[^/@]+:[^/@]*@")


class Mount(NamedTuple):
    """One mount."""

    identity: str
    device: str  #: as in "8:1": the same for all mounts of one file system
    root: str  #: what of the file system is shown; "/" is all of it
    point: str
    kind: str
    source: str
    read_only: bool = False
    automounted: bool = False  #: goes away when nobody asks for some time

    def __str__(self) -> str:
        return f"{self.point} ({self.kind}, {self.source})"


def find_process(kernel: Kernel) -> str:
    """Return the process whose mounts are the machine's, as in "proc/self"."""
    own, first = kernel.link("proc/self/ns/mnt"), kernel.link("proc/1/ns/mnt")
    # Whoever may not look into the first process gets no answer here.
    return "proc/1" if first is not None and first != own else "proc/self"


def read_mounts(kernel: Kernel, process: str) -> list[Mount]:
    """Return what can be seen of the mounts: the last one where several are on one point."""
    points: dict[str, tuple[Mount, str]] = {}
    kinds: dict[str, str] = {}
    for line in kernel.lines(f"{process}/mountinfo"):
        place, dash, rest = line.partition(" - ")
        left, right = place.split(" "), rest.split(" ")
        if not dash or len(left) < 6 or len(right) < 2 or not left[4].startswith("/"):
            continue
        identity, parent, device, root, point = left[:5]
        kinds[identity] = right[0]
        source = _SECRET.sub("//", _unescaped(right[1]))
        options = {*left[5].split(","), *(right[2].split(",") if len(right) > 2 else ())}
        mount = Mount(
            identity, device, _unescaped(root), _unescaped(point), right[0], source, read_only="ro" in options
        )
        points[mount.point] = (mount, parent)
    return [mount._replace(automounted=kinds.get(parent) == "autofs") for mount, parent in points.values()]


def with_space(mounts: Iterable[Mount]) -> list[Mount]:
    """Return one mount of each file system that has space of its own, by mount point."""
    chosen: dict[str, Mount] = {}
    for mount in mounts:
        if _counts(mount):
            other = chosen.get(mount.device)
            if other is None or rank(mount) < rank(other):
                chosen[mount.device] = mount
    return sorted(chosen.values(), key=lambda mount: mount.point)


def _counts(mount: Mount) -> bool:
    if mount.kind in _PSEUDO or mount.point in _FILES:
        return False
    if mount.kind in _LAYERED:
        # A container sees the host's disk only so.
        return mount.point == "/"
    if mount.kind != "tmpfs" and _OWN_DISKS.fullmatch(mount.point):
        return True
    return not _PLACES.match(mount.point)


def rank(mount: Mount) -> tuple[bool, int, str]:
    """Return what sorts mounts of one file system: the whole before parts, then the shortest path."""
    return (mount.root != "/", len(mount.point), mount.point)


def _unescaped(text: str) -> str:
    return _ESCAPE.sub(lambda match: chr(int(match.group(1), 8)), text)
