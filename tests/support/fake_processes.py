"""Processes made of files: a /proc that a test lets be born, use, end, be waited for and be orphaned."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path

from tracker_agent.collectors.process_stat import TICKS_PER_S

INIT = 1


@dataclass
class FakeProcess:
    """What the kernel keeps of one process; waited_… is what it got from children that it waited for."""

    pid: int
    parent: int
    start: int
    name: str = "python"
    state: str = "R"
    cpu: int = 0
    waited_cpu: int = 0
    faults: int = 0
    waited_faults: int = 0
    minor_faults: int = 1
    waited_minor_faults: int = 0
    threads: int = 1
    rss_pages: int = 1
    read: int = 0  #: waited-for children included, as in the kernel
    written: int = 0
    readable: bool = True
    files: int = 3
    used_cpu: int = field(default=0)  #: the truth, for tests


class FakeProcesses:
    """The processes of a machine, by pid. write() puts them where a Kernel reads them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.proc = root / "proc"
        self.proc.mkdir(parents=True)
        self.ticks = 1000
        self.alive: dict[int, FakeProcess] = {}
        self._written: dict[int, int] = {}
        self._serial = 0
        self.born(INIT, 0)

    def born(self, pid: int, parent: int, **facts: object) -> FakeProcess:
        """Start a process; a pid may be used again once its process is gone."""
        assert pid not in self.alive
        self.ticks += 1
        process = FakeProcess(pid, parent, self.ticks)
        for name, value in facts.items():
            setattr(process, name, value)
        self.alive[pid] = process
        return process

    def exits(self, pid: int) -> None:
        """Let a process become a zombie; its children are init's then."""
        process = self.alive[pid]
        process.state, process.threads, process.rss_pages, process.files = "Z", 1, 0, 0
        for child in list(self.alive.values()):
            if child.parent == pid:
                child.parent = INIT
                if child.state == "Z":
                    self.waited_for(child.pid)

    def waited_for(self, pid: int) -> None:
        """Let its parent wait for a zombie."""
        child = self.alive.pop(pid)
        assert child.state == "Z"
        parent = self.alive[child.parent]
        parent.waited_cpu += child.cpu + child.waited_cpu
        parent.waited_faults += child.faults + child.waited_faults
        parent.waited_minor_faults += child.minor_faults + child.waited_minor_faults
        parent.read += child.read
        parent.written += child.written

    def forgotten(self, pid: int) -> None:
        """Let a zombie go of which its parent wants to know nothing (SIGCHLD ignored)."""
        assert self.alive.pop(pid).state == "Z"

    def write(self) -> None:
        """Write all of /proc."""
        self.ticks += 1
        (self.proc / "uptime").write_text(f"{self.ticks / TICKS_PER_S:.2f} 0.00\n")
        for pid in set(self._written) - set(self.alive):
            self._remove(pid)
        for process in self.alive.values():
            if self._written.get(process.pid) != process.start:
                self._make(process)
            self._fill(process)

    def _make(self, process: FakeProcess) -> None:
        # Made before the old one is removed: /proc gives no inode's number again at once, file systems do.
        self._serial += 1
        fresh = self.root / f"fresh-{self._serial}"
        (fresh / "fd").mkdir(parents=True)
        for number in range(process.files):
            (fresh / "fd" / str(number)).touch()
        if process.pid in self._written:
            self._remove(process.pid)
        fresh.rename(self.proc / str(process.pid))
        self._written[process.pid] = process.start

    def _remove(self, pid: int) -> None:
        # The directory stays somewhere, so that its inode is not used again.
        self._serial += 1
        (self.proc / str(pid)).rename(self.root / f"gone-{self._serial}")
        shutil.rmtree(self.root / f"gone-{self._serial}" / "fd")
        del self._written[pid]

    def _fill(self, process: FakeProcess) -> None:
        at = self.proc / str(process.pid)
        fields = [0] * 50
        fields[0:1] = [process.parent]
        fields[6:10] = [
            process.minor_faults,
            process.waited_minor_faults,
            process.faults,
            process.waited_faults,
        ]
        fields[10:14] = [process.cpu // 2, process.cpu - process.cpu // 2, process.waited_cpu, 0]
        fields[16] = process.threads
        fields[18] = process.start
        fields[20] = process.rss_pages
        numbers = " ".join(map(str, fields))
        (at / "stat").write_text(f"{process.pid} ({process.name}) {process.state} {numbers}\n")
        if process.readable:
            (at / "io").write_text(
                f"rchar: 1\nwchar: 1\nsyscr: 1\nsyscw: 1\nread_bytes: {process.read}\n"
                f"write_bytes: {process.written}\ncancelled_write_bytes: 0\n"
            )
