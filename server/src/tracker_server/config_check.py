"""What is wrong with the world that the server's settings name: the data directory, the address, the machine.

What is seen here is as true as the moment: `check-config` says it beforehand, the server looks again.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from .config import MIB, Settings
from .config_file import NOTE, WARNING, Problem, Source
from .data_directory import DataDirectory

#: What an agent sends at once, decompressed.
AGENT_BATCH_BYTES = 4 * MIB
NETWORK_FILE_SYSTEMS = frozenset(
    ("nfs", "nfs4", "cifs", "smb3", "smbfs", "lustre", "gpfs", "beegfs", "ceph", "afs", "9p", "glusterfs",
     "pvfs2", "orangefs", "virtiofs", "wekafs", "panfs")
)  # fmt: skip


def look_at_world(
    file: Path | None, settings: Settings, why_not_listening: Callable[[str, int], str | None]
) -> Iterator[Problem]:
    """Yield what would keep the server from working, or endanger its data. Errors keep it from starting."""
    if file is not None and file.stat().st_mode & stat.S_IWOTH:
        yield Problem(
            f"every user can change {file}", f"run: chmod o= {file}", Source(str(file)), level=WARNING
        )
    owner = _running(settings.data)
    if owner:
        yield Problem(
            f"a server (pid {owner}) runs on {settings.data}",
            "restart it to put changes of the file into force",
            settings.sources.get(("", "data")),
            "data",
            NOTE,
        )
    else:
        yield from _address_problems(settings, why_not_listening(settings.http.host, settings.http.port))
    yield from _data_problems(settings)
    yield from _network_problems(settings)
    yield from _limit_problems(settings)


def _data_problems(settings: Settings) -> Iterator[Problem]:
    path, source = settings.data, settings.sources.get(("", "data"))

    def problem(what: str, todo: str, level: str = "error") -> Problem:
        return Problem(what, todo, source, "data", level)

    if not path.is_absolute():
        what = f"data = {str(path)!r} is relative to where the server is started, here {Path.cwd()}"
        yield problem(what, "write the whole path, from / on", WARNING)
    path = path.absolute()
    try:
        status = path.stat()
    except FileNotFoundError:
        parent = next(each for each in path.parents if each.exists())
        if not os.access(parent, os.W_OK | os.X_OK) or not parent.is_dir():
            what = f"the data directory {path} does not exist and cannot be made in {parent}"
            yield problem(what, "make it for the server's user")
        return
    except OSError as error:
        yield problem(
            f"the data directory {path}: {error.strerror}", "the server's user must be able to enter it"
        )
        return
    if stat.S_ISDIR(status.st_mode):
        yield from _directory_problems(settings, path, status)
    else:
        yield problem(f"the data directory {path} is no directory", "move it away or choose another place")


def _directory_problems(settings: Settings, path: Path, status: os.stat_result) -> Iterator[Problem]:
    """Look at a data directory that is there."""
    source = settings.sources.get(("", "data"))

    def problem(what: str, todo: str, level: str = "error") -> Problem:
        return Problem(what, todo, source, "data", level)

    disk = os.statvfs(path)
    if disk.f_flag & os.ST_RDONLY:
        yield problem(f"{path} is on a file system that is mounted read-only", "mount it writable")
    elif not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        what = f"uid {os.geteuid()} may not write into the data directory {path} (of uid {status.st_uid})"
        yield problem(what, "run this as the server's user; for another one: chown -R USER " + str(path))
    if status.st_mode & 0o077:
        yield problem(f"other users may enter the data directory {path}", f"run: chmod go= {path}", WARNING)
    key = DataDirectory(path).admin_key
    if os.access(path, os.X_OK) and key.exists() and key.stat().st_mode & 0o077:
        yield problem(f"other users may read the admin key {key}", f"run: chmod go= {key}", WARNING)
    free, reserve = disk.f_bavail * disk.f_frsize, settings.limits.blob_reserve_bytes
    if free < reserve:
        what = f"{path} has {free // MIB} MiB left, below limits.blob_reserve_bytes ({reserve // MIB} MiB)"
        yield problem(what, "make room: files of runs are refused", WARNING)
    kind = _file_system_type(path)
    if kind in NETWORK_FILE_SYSTEMS:
        what = (
            f"{path} is on a network file system ({kind}), where SQLite's locks do not hold what they promise"
        )
        yield problem(what, "choose a directory on a disk of this machine", WARNING)


def _address_problems(settings: Settings, why_not: str | None) -> Iterator[Problem]:
    if why_not is not None:
        name = "host" if "--host" in why_not else "port"
        what, _, todo = why_not.partition("; ")
        source = settings.sources.get(("http", name))
        yield Problem(what, todo or "choose another address", source, f"http.{name}")


def _network_problems(settings: Settings) -> Iterator[Problem]:
    http, sources = settings.http, settings.sources
    if not settings.loopback_only and not http.public_url.startswith("https://"):
        yield Problem(
            f"http.host = {http.host!r} lets other machines in, without TLS: keys and data cross the network "
            "in the clear",
            "put a TLS proxy before it (docs/server.md) and say its address in http.public_url",
            sources.get(("http", "host")),
            "http.host",
            WARNING,
        )
    if http.public_url.startswith("http://") and not re.match(
        r"http://(localhost|127\.|\[::1\])", http.public_url
    ):
        yield Problem(
            "http.public_url begins with http://: people's sessions cross the network in the clear",
            "put a TLS proxy before the server and begin it with https://",
            sources.get(("http", "public_url")),
            "http.public_url",
            WARNING,
        )


def _limit_problems(settings: Settings) -> Iterator[Problem]:
    if settings.limits.ingest_decompressed_bytes < AGENT_BATCH_BYTES:
        yield Problem(
            "limits.ingest_decompressed_bytes is less than what agents send at once: they have to cut it up",
            f"allow {AGENT_BATCH_BYTES} at least",
            settings.sources.get(("limits", "ingest_decompressed_bytes")),
            "limits.ingest_decompressed_bytes",
            WARNING,
        )
    threads = 16 * (os.cpu_count() or 1)
    if settings.limits.read_threads > threads:
        yield Problem(
            f"limits.read_threads is {settings.limits.read_threads} on {os.cpu_count()} processors",
            f"more than {threads} only wait for each other",
            settings.sources.get(("limits", "read_threads")),
            "limits.read_threads",
            WARNING,
        )


def _running(data: Path) -> str | None:
    """Return the pid of the server that holds a data directory's lock. Takes no lock: one may be starting."""
    try:
        status = (data / "server.lock").stat()
        locks = Path("/proc/locks").read_text()
    except OSError:
        return None
    major, minor = os.major(status.st_dev), os.minor(status.st_dev)
    found = re.search(rf"FLOCK +\S+ +WRITE +(\d+) +{major:02x}:{minor:02x}:{status.st_ino} ", locks)
    return found.group(1) if found else None


def _file_system_type(path: Path) -> str:
    """Return the type of the file system a path is on (proc_pid_mountinfo(5)), "" when unknown."""
    real, best, found = Path(os.path.realpath(path)), Path(), ""
    try:
        lines = Path("/proc/self/mountinfo").read_text(errors="surrogateescape").splitlines()
    except OSError:
        return ""
    for line in lines:
        before, _, after = line.partition(" - ")
        mount = Path(before.split(" ")[4].replace("\\040", " "))
        if (mount == real or mount in real.parents) and len(mount.parts) >= len(best.parts):
            best, found = mount, after.split(" ")[0]
    return found
