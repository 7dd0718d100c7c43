"""What a support bundle says of the machine and the spools: facts and sizes, no records, no names of runs.

Read by the command line, so that a bundle can be made of an agent that hangs or does not run.
"""

from __future__ import annotations

import os
import platform
import resource
import stat
import time
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from tracker.protocol.layout import parse_segment_name, parse_user_directory

#: What is looked at in one spool; beyond that the listing says that it is cut.
ENTRIES_MAX = 200_000
SECONDS_MAX = 10.0
FILE_BYTES_MAX = 64 * 1024
PACKAGES = (
    "tracker-agent", "tracker-shim", "aiohttp", "watchdog", "psutil", "nvidia-ml-py", "msgpack", "structlog",
    "zstandard", "prometheus-client", "rich", "systemd-python",
)  # fmt: skip
#: Variables that change what the agent does. Their names are told, never their values.
VARIABLES = (
    "TRACKER_",
    "XDG_",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "SSL_CERT_",
    "REQUESTS_CA_",
)
_KERNEL_FILES = (
    "/proc/sys/fs/inotify/max_user_watches",
    "/proc/sys/fs/inotify/max_user_instances",
    "/proc/sys/fs/inotify/max_queued_events",
    "/proc/sys/fs/file-nr",
    "/proc/sys/fs/protected_hardlinks",
    "/proc/sys/fs/protected_symlinks",
    "/proc/sys/kernel/pid_max",
    "/proc/sys/kernel/osrelease",
    "/proc/loadavg",
    "/proc/uptime",
    "/etc/os-release",
)
_PROCESS_FILES = ("status", "limits", "cgroup", "io", "wchan", "oom_score_adj")
_CGROUP_FILES = (
    "memory.max", "memory.high", "memory.current", "memory.events", "cpu.max", "pids.max", "pids.current",
    "memory.limit_in_bytes", "memory.usage_in_bytes", "memory.oom_control",
)  # fmt: skip


def machine_facts(environment: Mapping[str, str]) -> dict[str, Any]:
    """Return versions and the kernel's settings."""
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "kernel": " ".join(platform.uname()),
        "files": {path: _text(path) for path in _KERNEL_FILES},
        "variables": sorted(name for name in environment if name.upper().startswith(VARIABLES)),
        "user_id": os.geteuid(),
        "files_limit": resource.getrlimit(resource.RLIMIT_NOFILE),
    }


def process_facts(pid: int) -> dict[str, Any]:
    """Return what the kernel says of a running agent: limits, control group, descriptors by sort."""
    base = f"/proc/{pid}"
    facts: dict[str, Any] = {name: _text(f"{base}/{name}") for name in _PROCESS_FILES}
    facts["threads"] = {
        task: _text(f"{base}/task/{task}/wchan") for task in _attempt(lambda: os.listdir(f"{base}/task"), [])
    }
    sorts: Counter[str] = Counter()
    for number in _attempt(lambda: os.listdir(f"{base}/fd"), []):
        target = _attempt(partial(os.readlink, f"{base}/fd/{number}"), "gone")
        sorts[target.partition(":")[0] if ":[" in target or target.startswith("anon") else "file"] += 1
    facts["descriptors"] = dict(sorts)
    facts["cgroups"] = {
        path: {name: text for name in _CGROUP_FILES if (text := _text(f"{path}/{name}")) is not None}
        for path in _cgroup_paths(facts["cgroup"] or "")
    }
    return facts


def directory_facts(path: Path) -> dict[str, Any]:
    """Return mode, owner, file system and free space of a directory."""
    try:
        status, space = os.stat(path), os.statvfs(path)
    except OSError as error:
        return {"path": str(path), "problem": str(error.strerror)}
    return {
        "path": str(path),
        "mode": stat.filemode(status.st_mode),
        "uid": status.st_uid,
        "gid": status.st_gid,
        "acl": sorted(_attempt(lambda: os.listxattr(path), [])),
        "file_system": _file_system(path),
        "bytes": space.f_frsize * space.f_blocks,
        "bytes_free": space.f_frsize * space.f_bavail,
        "inodes_free": space.f_favail,
    }


def spool_facts(spool: Path, now: Callable[[], float] = time.monotonic) -> dict[str, Any]:
    """Return, for each user's directory, how much lies there and how old it is. No names of runs or files."""
    facts = directory_facts(spool)
    users: dict[str, dict[str, Any]] = {}
    deadline, left, cut = now() + SECONDS_MAX, ENTRIES_MAX, False
    for user in sorted(_attempt(lambda: os.listdir(spool), [])):
        if parse_user_directory(user) is None:
            continue
        counts: Counter[str] = Counter()
        times: list[float] = []
        for directory, directories, files in os.walk(spool / user):
            left -= len(files) + len(directories)
            if left < 0 or now() > deadline:
                cut = True
                break
            counts["directories"] += len(directories)
            for name in files:
                _count(os.path.join(directory, name), name, counts, times)
        status = _attempt(partial(os.lstat, spool / user), None)
        users[user] = {
            "mode": None if status is None else stat.filemode(status.st_mode),
            "uid": None if status is None else status.st_uid,
            **counts,
            "oldest_s": round(time.time() - min(times)) if times else None,
            "newest_s": round(time.time() - max(times)) if times else None,
        }
    return {**facts, "users": users, "cut": cut}


def _count(path: str, name: str, counts: Counter[str], times: list[float]) -> None:
    try:
        status = os.lstat(path)
    except OSError:
        return
    if not stat.S_ISREG(status.st_mode):
        counts["not_regular"] += 1
        return
    sort = "segments" if parse_segment_name(name) else "live" if name.endswith(".live") else "other_files"
    counts[sort] += 1
    counts[f"{sort}_bytes"] += status.st_size
    counts[f"mode {stat.S_IMODE(status.st_mode):o}"] += 1
    times.append(status.st_mtime)


def _cgroup_paths(memberships: str) -> list[str]:
    paths = []
    for line in memberships.splitlines():
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if not controllers:
            paths += [f"/sys/fs/cgroup{path}", f"/sys/fs/cgroup/unified{path}"]
        paths += [
            f"/sys/fs/cgroup/{name}{path}" for name in controllers.split(",") if name in ("memory", "pids")
        ]
    return [path for path in paths if os.path.isdir(path)]


def _file_system(path: Path) -> str:
    """Return type and options of the mount that a directory lies on."""
    best, found = "", ""
    for line in (_text("/proc/self/mounts", 1 << 20) or "").splitlines():
        fields = line.split(" ")
        where = fields[1].encode().decode("unicode_escape") if len(fields) > 3 else ""
        inside = f"{path}/".startswith(where.rstrip("/") + "/")
        if where and inside and len(where) >= len(best):
            best, found = where, f"{fields[2]} on {where} ({fields[3]})"
    return found


def _text(path: str, size: int = FILE_BYTES_MAX) -> str | None:
    try:
        with open(path, "rb") as file:
            return file.read(size).decode("utf-8", "replace")
    except OSError:
        return None


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _attempt(function: Callable[[], Any], otherwise: Any) -> Any:
    try:
        return function()
    except OSError:
        return otherwise
