"""One process as /proc/<pid>/stat and /proc/<pid>/io show it (proc_pid_stat(5), proc_pid_io(5))."""

from __future__ import annotations

import os
from typing import NamedTuple

from .kernel import Kernel

#: What the kernel counts processor time and births in: 1/100 s on every architecture of today.
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class Io(NamedTuple):
    """Bytes read from and written to storage, those of children that were waited for included."""

    read: int
    written: int


class Process(NamedTuple):
    """A process at one moment. (pid, start) is its identity: pids are used again.

    What its children had used counts as waited_…, once it has waited for them.
    """

    pid: int
    parent: int
    start: int  #: ticks since boot
    zombie: bool
    cpu: int  #: ticks, in user and kernel mode, threads that ended included
    waited_cpu: int
    faults: int  #: pages that had to be read from storage
    waited_faults: int
    waited_minor_faults: int  #: grows whenever a child is waited for, as none lives without
    threads: int
    rss_bytes: int
    io: Io | None  #: None where it is not for us


def read_process(kernel: Kernel, pid: int) -> Process | None:
    """Return a process without its `io`, None where there is none any more."""
    text = kernel.text(f"proc/{pid}/stat")
    # The name, in parentheses, may hold spaces and parentheses itself.
    _, closed, rest = (text or "").rpartition(")")
    fields = rest.split(None, 22)
    if not closed or len(fields) < 22:
        return None
    try:
        return Process(
            pid=pid,
            parent=int(fields[1]),
            start=int(fields[19]),
            zombie=fields[0] in "ZXx",
            cpu=int(fields[11]) + int(fields[12]),
            waited_cpu=int(fields[13]) + int(fields[14]),
            faults=int(fields[9]),
            waited_faults=int(fields[10]),
            waited_minor_faults=int(fields[8]),
            threads=int(fields[17]),
            rss_bytes=int(fields[21]) * PAGE_BYTES,
            io=None,
        )
    except ValueError:
        return None


def read_io(kernel: Kernel, pid: int) -> Io | None:
    """Return what a process read and wrote. None where it is gone, or somebody else's and not to be seen."""
    table = kernel.table(f"proc/{pid}/io")
    if "read_bytes" not in table or "write_bytes" not in table:
        return None
    return Io(table["read_bytes"], table["write_bytes"])
