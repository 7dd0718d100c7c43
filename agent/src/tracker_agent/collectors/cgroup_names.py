"""What a control group is: a Slurm job, a pod, a container, a systemd unit; told by its path alone.

Nobody's environment is read for it: it holds secrets.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_HEX64 = "[0-9a-f]{64}"
_UUID = "[0-9a-f]{8}[-_][0-9a-f]{4}[-_][0-9a-f]{4}[-_][0-9a-f]{4}[-_][0-9a-f]{12}"
_SLURM_JOB = re.compile(r"job_(\d+)")
#: …-pod<uid>.slice of the systemd driver, with _ for -, or pod<uid> of cgroupfs. Static pods have a hash.
_POD = re.compile(rf"(?:.*-)?pod({_UUID}|[0-9a-f]{{32}})(?:\.slice)?")
#: Of the container runtimes: cri-containerd-…, crio-…, docker-…, libpod-…; or the bare id of cgroupfs.
_CONTAINER = re.compile(rf"(?:[a-z]+(?:-[a-z]+)*-)?({_HEX64})(?:\.scope)?")
_UNIT = re.compile(r".+\.(?:service|scope)")
_SHORT_ID = 12


class GroupName(NamedTuple):
    """A group that has a name of its own. path: how much of the given path it is."""

    kind: str  #: "slurm job", "pod", "container", "unit" or "group"
    id: str
    path: str
    #: How many levels above the path its neighbours are, of the same kind; 0: none in particular.
    levels_to_crowd: int = 0

    @property
    def title(self) -> str:
        """Return what to call it before people."""
        shown = self.id[:_SHORT_ID] if self.kind == "container" else self.id
        return f"{self.kind[0].upper()}{self.kind[1:]} {shown}"


def name_group(path: str) -> GroupName | None:
    """Return what a path of /proc/<pid>/cgroup belongs to; None for the root, which is the whole machine.

    A job is named whole, not by its step; a pod by the pod, but measured is the container in it, whose limit
    is nearest. What is below a unit (a step of a service) belongs to the unit.
    """
    parts = [part for part in path.removesuffix(" (deleted)").split("/") if part]
    if not parts or ".." in parts:
        return None
    return _job(parts) or _pod(parts) or _container(parts) or _unit(parts)


def _job(parts: list[str]) -> GroupName | None:
    slurm = False
    for index, part in enumerate(parts):
        match = _SLURM_JOB.fullmatch(part)
        if slurm and match:
            return GroupName("slurm job", match[1], _join(parts, index), 1)
        slurm = slurm or "slurm" in part
    return None


def _pod(parts: list[str]) -> GroupName | None:
    for index, part in enumerate(parts):
        match = _POD.fullmatch(part)
        if match and any("kubepods" in above for above in parts[: index + 1]):
            below = parts[index + 1 : index + 2]
            inside = index + 1 if below and _CONTAINER.fullmatch(below[0]) else index
            return GroupName("pod", match[1].replace("_", "-"), _join(parts, inside), inside - index + 1)
    return None


def _container(parts: list[str]) -> GroupName | None:
    for index, part in enumerate(parts):
        match = _CONTAINER.fullmatch(part)
        if match:
            return GroupName("container", match[1], _join(parts, index))
    return None


def _unit(parts: list[str]) -> GroupName:
    # The last one that is a service or a scope: user@1000.service holds the units of a user.
    for index in range(len(parts) - 1, -1, -1):
        if _UNIT.fullmatch(parts[index]):
            return GroupName("unit", parts[index], _join(parts, index))
    return GroupName("group", "/".join(parts), "/" + "/".join(parts))


def _join(parts: list[str], last: int) -> str:
    return "/" + "/".join(parts[: last + 1])
