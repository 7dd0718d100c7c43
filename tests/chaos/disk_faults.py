"""Faults of the disk that trainings write to and the agent reads from."""

from __future__ import annotations

import ctypes
import os
import subprocess
from contextlib import ExitStack, suppress
from pathlib import Path

from tests.chaos.expectation import Expectation
from tests.chaos.fault import NotNow, Scene, fault
from tests.support.faulty_disks import LoopDisk
from tests.support.injected import injected

ENDS_S = 5.0


def disk_of(scene: Scene) -> LoopDisk:
    if scene.arena.spool_disk is None:
        raise NotNow
    return scene.arena.spool_disk


@fault("disk")
def spool_full(scene: Scene) -> None:
    disk = disk_of(scene)
    disk.fill()
    try:
        scene.hold(0.5, 4)
    finally:
        disk.free()


@fault("disk")
def spool_hangs(scene: Scene) -> None:
    disk = disk_of(scene)
    disk.freeze()
    try:
        scene.hold(0.5, 4)
    finally:
        disk.thaw()


def refuse_writes(scene: Scene, error: str) -> None:
    """Let some trainings' writes fail. Their side logs are spared."""
    chosen = scene.arena.fleet.pick(3)
    if not chosen:
        raise NotNow
    with ExitStack() as stack:
        bitten = 0
        for training in chosen:
            segments = segments_of(training.process.pid)
            if segments:
                try:
                    stack.enter_context(injected(training.process.pid, [f"write:error={error}"], segments))
                    bitten += 1
                except (AssertionError, OSError):
                    pass  # it ended meanwhile
        if not bitten:
            raise NotNow
        scene.hold(0.3, 2)


def segments_of(pid: int) -> list[Path]:
    found = []
    try:
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            target = os.readlink(entry)
            if target.endswith(".mpl"):
                found.append(Path(target))
    except OSError:
        pass
    return found


@fault("disk")
def spool_read_only(scene: Scene) -> None:
    refuse_writes(scene, "EROFS")


@fault("disk")
def spool_writes_eio(scene: Scene) -> None:
    refuse_writes(scene, "EIO")


@fault("disk")
def spool_over_quota(scene: Scene) -> None:
    refuse_writes(scene, "EDQUOT")


@fault("disk")
def agent_reads_eio(scene: Scene) -> None:
    host = scene.host()
    with host.lock:
        if host.agent.process is None or host.agent.process.poll() is not None:
            raise NotNow
        try:
            with injected(host.agent.process.pid, ["pread64,preadv,openat:error=EIO:when=1+3"]):
                scene.hold(0.5, 2)
        except (AssertionError, OSError):
            # An agent that is about to start ends by it, maybe before strace is seen to be there.
            with suppress(subprocess.TimeoutExpired):
                host.agent.process.wait(ENDS_S)
            if host.agent.process.poll() is None:
                raise


@fault("disk")
def power_cut(scene: Scene) -> None:
    """The whole machine goes: every process on the disk, and whatever was in memory only."""
    arena = scene.arena
    disk = disk_of(scene)
    with ExitStack() as stack:
        for host in arena.hosts:
            stack.enter_context(host.lock)
        fleet = stack.enter_context(arena.fleet.lock) and arena.fleet
        certain = {id(each): len(each.noted()[0]) for each in fleet.expectations}
        sync(disk)
        scene.hold(0, 2)
        disk.cut_power()
        fleet.kill_all()
        for host in arena.hosts:
            host.agent.kill()
        disk.unmount()
        disk.mount()
        for each in fleet.expectations:
            each.certain = least(each, certain[id(each)])
        for host in arena.hosts:
            host.agent.start()
        fleet.spool = arena.hosts[0].agent.spool


def least(expected: Expectation, certain: int) -> int:
    """Return how many records are certainly on disk: no more than after an earlier power cut."""
    return certain if expected.certain is None else min(certain, expected.certain)


def sync(disk: LoopDisk) -> None:
    """Have everything on that disk written back, and on no other."""
    descriptor = os.open(disk.path, os.O_RDONLY)
    try:
        ctypes.CDLL(None).syncfs(descriptor)
    finally:
        os.close(descriptor)
