"""filesystem: space and inodes of what is mounted, and mounts that do not answer."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from .collector import Collector, Context, Event, Metric, NothingHere, Reading
from .devices import DeviceSettings, MetricNames, devices_max
from .mount_questions import WAIT_S, Answer, MountQuestions
from .mounts import Mount, find_process, read_mounts, with_space

#: Asking keeps an automounted file system mounted, so these are asked less often than they take to expire.
AUTOMOUNTED_S = 1200.0
#: Mounts that are asked at all, and that the inventory lists.
MOUNTS_MAX, LISTED_MAX = 256, 64
_SOURCE = "statvfs"
_WHICH = (
    "of a mount with space of its own, the fullest first; # is the mount point, such as data_a for /data/a "
    "and root for /"
)


class FilesystemCollector(Collector):
    """Space and inodes of mounts, and which of them do not answer: each is asked in a thread of its own."""

    name = "filesystem"
    cost = "one file, and one short-lived thread per mount"
    interval_s = 30.0
    own_thread = True  # a mount that dies costs seconds once
    Settings = DeviceSettings
    metrics = (
        Metric("host.filesystem.fullest.percent", "%", _SOURCE, "the fullest of them, as df counts"),
        Metric("host.filesystem.fullest_inodes.percent", "%", _SOURCE, "the most inodes in use"),
        Metric("host.filesystem.stuck.count", "", _SOURCE, "mounts that do not answer"),
        Metric("host.filesystem.#.total.bytes", "bytes", _SOURCE, f"size {_WHICH}"),
        Metric("host.filesystem.#.used.bytes", "bytes", _SOURCE, "in use"),
        Metric("host.filesystem.#.free.bytes", "bytes", _SOURCE, "not in use, root's reserve included"),
        Metric("host.filesystem.#.available.bytes", "bytes", _SOURCE, "what users may take of it"),
        Metric("host.filesystem.#.percent", "%", _SOURCE, "in use, of what users may use; as df counts"),
        Metric("host.filesystem.#.inodes.percent", "%", _SOURCE, "inodes in use, where they are limited"),
        Metric("host.filesystem.#.inodes.total.count", "", _SOURCE, "inodes there can be"),
        Metric("host.filesystem.#.inodes.free.count", "", _SOURCE, "inodes there can be more"),
        Metric("host.filesystem.#.read_only.count", "", _SOURCE, "1 where nothing can be written, else 0"),
    )

    def __init__(
        self,
        context: Context | None = None,
        statvfs: Callable[[str], os.statvfs_result] = os.statvfs,
        wait_s: float = WAIT_S,
    ) -> None:
        super().__init__(context)
        self._questions = MountQuestions(statvfs, wait_s)
        self._names = MetricNames()
        self._told: dict[str, str] = {}

    def sample(self) -> Reading:
        kernel = self.context.kernel
        process = find_process(kernel)
        found = with_space(read_mounts(kernel, process))
        if not found:
            raise NothingHere("nothing is mounted that has space of its own")
        root = kernel.path("proc/1/root") if process == "proc/1" else ""
        mounts = {f"{each.identity} {each.device} {each.point}": each for each in found[:MOUNTS_MAX]}
        answers = self._questions.ask(
            {key: root + mount.point for key, mount in mounts.items()},
            {key: AUTOMOUNTED_S for key, mount in mounts.items() if mount.automounted},
            self.context.monotonic(),
        )
        names = self._names.of(mount.point for mount in mounts.values())
        problems = [
            f"{mount} {answers[key].problem}" for key, mount in mounts.items() if answers[key].problem
        ]
        if len(found) > MOUNTS_MAX:
            problems.append(f"{len(found) - MOUNTS_MAX} more mounts are not looked at")
        return Reading(
            self._values(mounts, answers, names),
            tuple(problems),
            inventory={"filesystems": _listed(mounts, names)},
            events=tuple(self._events(mounts, answers)),
        )

    def _values(
        self, mounts: Mapping[str, Mount], answers: Mapping[str, Answer], names: Mapping[str, str]
    ) -> dict[str, float]:
        spaces = {mounts[key].point: answer.space for key, answer in answers.items()}
        each = {point: _space_values(space) for point, space in spaces.items() if space and space.f_blocks}
        values = {"host.filesystem.stuck.count": float(sum(answer.stuck for answer in answers.values()))}
        fullest = sorted(each, key=lambda point: (-each[point].get("percent", 0.0), point))
        for total, what in (("fullest", "percent"), ("fullest_inodes", "inodes.percent")):
            # An image that nobody can write to is full and no trouble.
            shares = [own[what] for own in each.values() if what in own and not own["read_only.count"]]
            if shares:
                values[f"host.filesystem.{total}.percent"] = max(shares)
        for point in fullest[: devices_max(self.context.settings)]:
            values |= {f"host.filesystem.{names[point]}.{what}": value for what, value in each[point].items()}
        return values

    def _events(self, mounts: Mapping[str, Mount], answers: Mapping[str, Answer]) -> list[Event]:
        """Return which mounts went from one state to another."""
        told, self._told = self._told, {}
        events = []
        for key, answer in answers.items():
            before, state = told.get(key), _state(answer)
            if state is None:
                continue
            self._told[key] = state
            change = _change(before, state, answer.problem)
            if change is not None:
                mount = mounts[key]
                title, text = f"{mount.point} {change}", f"{mount} {change}."
                facts = {"mount": mount.point, "type": mount.kind, "source": mount.source, "state": state}
                level = "info" if state == "writable" or change == _AGAIN else "warn"
                events.append(Event(self.context.wall_ns(), title, text, level, facts))
        return events


_AGAIN = "answers again"
_HEALTHY = ("writable", "read-only")


def _change(before: str | None, state: str, problem: str | None) -> str | None:
    """Return in words what happened to a mount; None where nothing did, or it has always been so."""
    if state == before or (before is None and state in _HEALTHY):
        return None
    if state not in _HEALTHY:
        return problem
    if before not in _HEALTHY:
        return _AGAIN
    return "became read-only" if state == "read-only" else "can be written to again"


def _state(answer: Answer) -> str | None:
    if answer.stuck:
        return "stuck"
    if answer.problem:
        return "failing"
    if answer.space is None:
        return None
    return "read-only" if answer.space.f_flag & os.ST_RDONLY else "writable"


def _space_values(space: os.statvfs_result) -> dict[str, float]:
    used = max(0, space.f_blocks - space.f_bfree)
    values = {
        "total.bytes": float(space.f_blocks * space.f_frsize),
        "used.bytes": float(used * space.f_frsize),
        "free.bytes": float(space.f_bfree * space.f_frsize),
        "available.bytes": float(space.f_bavail * space.f_frsize),
        "read_only.count": float(bool(space.f_flag & os.ST_RDONLY)),
    }
    if used + space.f_bavail > 0:
        values["percent"] = 100.0 * used / (used + space.f_bavail)
    if space.f_files > 0:
        values["inodes.total.count"] = float(space.f_files)
        values["inodes.free.count"] = float(space.f_ffree)
        values["inodes.percent"] = 100.0 * max(0, space.f_files - space.f_ffree) / space.f_files
    return values


def _listed(mounts: Mapping[str, Mount], names: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return what the names in the metrics stand for."""
    return [
        {
            "name": names[mount.point],
            "mount": mount.point,
            "type": mount.kind,
            "device": mount.source,
            "readonly": mount.read_only,
        }
        for mount in list(mounts.values())[:LISTED_MAX]
    ]
