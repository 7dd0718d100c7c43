"""Processes of the simulated host: their numbers, and what their death brings about."""

from __future__ import annotations

from collections.abc import Callable

from .faults import Faults, Fired
from .sim_disk import Node, SimDisk
from .world import World


class Process:
    """A process. Its locks go with it, in the same moment."""

    def __init__(self, pid: int, name: str) -> None:
        self.pid = pid
        self.name = name
        self.alive = True
        self.locks: list[Node] = []
        self.writes: Node | None = None  #: the file that it wrote last
        self.at_death: list[Callable[[], None]] = []

    def die(self) -> None:
        """End, whatever the cause."""
        if not self.alive:
            return
        self.alive = False
        for node in self.locks:
            if node.holder is self:
                node.holder = None
        for callback in self.at_death:
            callback()
        self.at_death.clear()


class Host:
    """The machine: its processes, its disk, which faults befall it."""

    def __init__(self, world: World, disk: SimDisk, faults: Faults, fired: Fired) -> None:
        self.world = world
        self.disk = disk
        self.faults = faults
        self.fired = fired
        self.boot = "boot-1"
        self.note_server: Callable[[bytes, str | None], None] = lambda stream, server: None
        self.judge_removal: Callable[[bytes, Node], None] = lambda stream, node: None
        self.processes: dict[int, Process] = {}
        self._boots = 1
        self._next_pid = 100
        self._freed: list[int] = []

    def start(self, name: str) -> Process:
        """Start a process, now and then under a number that another one had."""
        for pid, process in list(self.processes.items()):
            if not process.alive:
                del self.processes[pid]
                self._freed.append(pid)
        if self._freed and self.world.chance(self.faults.pid_reused):
            pid = self._freed.pop()
            self.fired("pid_reused")
        else:
            self._next_pid += 1
            pid = self._next_pid
        process = self.processes[pid] = Process(pid, name)
        return process

    def boot_again(self) -> None:
        """End everything and start with what the disk kept."""
        for process in list(self.processes.values()):
            process.die()
        self.disk.lose_power()
        self._boots += 1
        self.boot = f"boot-{self._boots}"
