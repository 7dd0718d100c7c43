"""Faults of the training processes, and runs that two hosts write together."""

from __future__ import annotations

import itertools
import os
import signal

from tests.chaos.fault import NotNow, Scene, fault

_numbers = itertools.count(1)


@fault("training", privileged=False)
def training_killed(scene: Scene) -> None:
    """The process itself, not its child: that one goes on for a moment."""
    for training in scene.arena.fleet.pick(scene.numbers.randint(1, 4)):
        try:
            os.kill(training.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            raise NotNow from None


@fault("training", privileged=False)
def training_group_killed(scene: Scene) -> None:
    for training in scene.arena.fleet.pick(scene.numbers.randint(1, 4)):
        training.signal(signal.SIGKILL)


@fault("training", privileged=False)
def training_stopped(scene: Scene) -> None:
    chosen = scene.arena.fleet.pick(5)
    for training in chosen:
        training.signal(signal.SIGSTOP)
    scene.hold(0.5, 3)
    for training in chosen:
        training.signal(signal.SIGCONT)


@fault("training", privileged=False)
def training_forks(scene: Scene) -> None:
    fleet = scene.arena.fleet
    with fleet.lock:
        if fleet.spool is None:
            raise NotNow
        fleet.start(fork=True, life_s=2)
    scene.hold(0.2, 1)


@fault("training")
def rank_on_other_host_killed(scene: Scene) -> None:
    """One run of two ranks on two hosts that share a spool; the other host's rank is killed."""
    fleet, arena = scene.arena.fleet, scene.arena
    with fleet.lock:
        if fleet.spool is None:
            raise NotNow
        run = f"pair{next(_numbers)}"
        fleet.start(run, "rank0", 4, False, spool=arena.shared_spool)
        other = fleet.start(run, "rank1", 20, False, arena.hosts[1].prefix, arena.shared_spool)
    scene.hold(1.5, 4)
    other.signal(signal.SIGKILL)
