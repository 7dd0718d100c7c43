"""Faults of the server: its process, its database, its disk."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from tests.chaos.fault import NotNow, Scene, fault
from tests.support.faulty_disks import LoopDisk
from tests.support.injected import injected
from tests.support.server_process import ServerProcess

KILLED_WITHIN_S = 5.0


def disk_of(scene: Scene) -> LoopDisk:
    if scene.arena.server_disk is None:
        raise NotNow
    return scene.arena.server_disk


def pid_of(server: ServerProcess) -> int:
    assert server.process is not None
    return server.process.pid


@contextmanager
def down(scene: Scene) -> Iterator[ServerProcess]:
    server = scene.arena.server
    server.kill()
    try:
        yield server
    finally:
        server.start()


@fault("server", privileged=False)
def server_killed(scene: Scene) -> None:
    with down(scene):
        scene.hold(0, 2)


@fault("server", privileged=False)
def server_stopped(scene: Scene) -> None:
    pid = pid_of(scene.arena.server)
    os.kill(pid, signal.SIGSTOP)
    try:
        scene.hold(0.5, 4)
    finally:
        os.kill(pid, signal.SIGCONT)


@fault("server", privileged=False)
def server_restarted(scene: Scene) -> None:
    scene.arena.server.stop()
    scene.arena.server.start()


@fault("server")
def server_killed_in_commit(scene: Scene) -> None:
    server = scene.arena.server
    call = scene.numbers.choice(("pwrite64", "fdatasync", "pwrite64"))
    number = scene.numbers.randint(1, 12) if call == "pwrite64" else 1
    with injected(pid_of(server), [f"{call}:signal=KILL:when={number}"]):
        waited = 0.0
        assert server.process is not None
        while server.process.poll() is None and waited < KILLED_WITHIN_S:
            scene.hold(0.05, 0.05)
            waited += 0.05
    if server.process.poll() is None:
        raise NotNow
    server.start()


@fault("server", privileged=False)
def database_locked(scene: Scene) -> None:
    database = scene.arena.server.data / "tracker.db"
    with (
        closing(sqlite3.connect(database, isolation_level=None)) as other,
        suppress(sqlite3.OperationalError),
    ):
        other.execute("BEGIN IMMEDIATE")
        scene.hold(0.5, 5)
        other.execute("ROLLBACK")


@fault("server")
def server_disk_full(scene: Scene) -> None:
    disk = disk_of(scene)
    disk.fill()
    try:
        scene.hold(0.5, 4)
    finally:
        disk.free()


def inject(scene: Scene, *rules: str) -> None:
    with injected(pid_of(scene.arena.server), list(rules)):
        scene.hold(0.5, 3)


@fault("server")
def server_writes_eio(scene: Scene) -> None:
    inject(scene, "pwrite64,ftruncate:error=EIO")


@fault("server")
def server_syncs_eio(scene: Scene) -> None:
    inject(scene, "fdatasync,fsync:error=EIO")


@fault("server")
def server_reads_eio(scene: Scene) -> None:
    inject(scene, "pread64:error=EIO")


@fault("server")
def server_read_only(scene: Scene) -> None:
    inject(scene, "pwrite64,ftruncate:error=EROFS")


@fault("server")
def server_power_cut(scene: Scene) -> None:
    disk = disk_of(scene)
    server = scene.arena.server
    disk.cut_power()
    scene.hold(0, 1)
    server.kill()
    disk.unmount()
    disk.mount()
    server.start()


@fault("server", privileged=False)
def server_out_of_descriptors(scene: Scene) -> None:
    pid = pid_of(scene.arena.server)
    soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    used = len(os.listdir(f"/proc/{pid}/fd"))
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (used + scene.numbers.randint(0, 3), hard))
    try:
        scene.hold(0.5, 3)
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))


@fault("server", privileged=False)
def server_restored_from_backup(scene: Scene) -> None:
    """As docs/server.md says: put the database back, or the whole directory and delete `life`."""
    data = scene.arena.server.data
    kept = scene.arena.directory / "backup"
    kept.mkdir(exist_ok=True)
    back_up(data / "tracker.db", kept / "tracker.db")
    scene.hold(1, 5)
    with down(scene):
        for file in data.glob("tracker.db*"):
            file.unlink()
        shutil.copy(kept / "tracker.db", data / "tracker.db")
        if scene.numbers.random() < 0.5:
            (data / "life").unlink()


def back_up(source: Path, target: Path) -> None:
    target.unlink(missing_ok=True)
    try:
        with closing(sqlite3.connect(source)) as opened, closing(sqlite3.connect(target)) as copy:
            opened.backup(copy)
    except sqlite3.OperationalError as error:
        raise NotNow from error
