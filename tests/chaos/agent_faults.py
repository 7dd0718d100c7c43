"""Faults of the agent's process, its state, its clock and what it gets from the kernel."""

from __future__ import annotations

import os
import resource
import shutil
import signal
from contextlib import suppress

from tests.chaos.fault import NotNow, Scene, fault

#: A user namespace of its own, where inotify is all but used up.
FEW_WATCHES = (
    *("unshare", "-U", "-r", "sh", "-c"),
    'echo 2 > /proc/sys/user/max_inotify_watches; exec "$@"',
    "sh",
)


@fault("agent", privileged=False)
def agent_killed(scene: Scene) -> None:
    scene.host().restart()


@fault("agent", privileged=False)
def agent_killed_again_and_again(scene: Scene) -> None:
    host = scene.host()
    for _ in range(3):
        host.restart()
        scene.hold(0, 0.8)


@fault("agent", privileged=False)
def agent_stopped(scene: Scene) -> None:
    host = scene.host()
    with host.lock:
        assert host.agent.process is not None
        host.agent.process.send_signal(signal.SIGSTOP)
        scene.hold(0.5, 4)
        host.agent.process.send_signal(signal.SIGCONT)


@fault("agent", privileged=False)
def agent_restarted_in_order(scene: Scene) -> None:
    host = scene.host()
    with host.lock:
        host.agent.stop()
        host.agent.start()


@fault("agent", privileged=False)
def agent_state_deleted(scene: Scene) -> None:
    host = scene.host()
    with host.lock:
        host.agent.kill()
        host.agent.delete_state()
        host.agent.start()


@fault("agent", privileged=False)
def agent_state_deleted_under_it(scene: Scene) -> None:
    host = scene.host()
    with host.lock:
        shutil.rmtree(host.agent.state, ignore_errors=True)
        scene.hold(0.5, 2)
        host.agent.kill()
        host.agent.start()


@fault("agent", privileged=False)
def agent_out_of_descriptors(scene: Scene) -> None:
    host = scene.host()
    with host.lock:
        assert host.agent.process is not None
        pid = host.agent.process.pid
        with suppress(OSError):
            soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
            used = len(os.listdir(f"/proc/{pid}/fd"))
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (used + scene.numbers.randint(0, 3), hard))
            scene.hold(0.5, 3)
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))


@fault("agent", privileged=False)
def wall_clock_jumps(scene: Scene) -> None:
    if scene.arena.clock is None:
        raise NotNow
    far = scene.numbers.choice((-86_400, -3_600, -2, 2, 3_600, 86_400))
    scene.arena.clock.jump(far)
    scene.hold(0.5, 3)
    scene.arena.clock.jump(0)


@fault("agent", privileged=False)
def inotify_overflows(scene: Scene) -> None:
    if scene.arena.clock is None:
        raise NotNow
    scene.arena.clock.overflow()
    scene.hold(0.2, 1)


@fault("agent")
def inotify_watches_used_up(scene: Scene) -> None:
    host = scene.host()
    with host.lock:
        host.agent.kill()
        host.agent.prefix = (*host.prefix, *FEW_WATCHES)
        host.agent.start()
        scene.hold(1.5, 4)
        host.agent.kill()
        host.agent.prefix = host.prefix
        host.agent.start()
