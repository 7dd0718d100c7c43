"""What the kernel says about processes it killed or that faulted: /dev/kmsg, where it may be read.

Users choose names of processes and of cgroups, which stand in these lines: patterns are anchored where a name
cannot reach, and only records of the kernel itself count. Pids in the log are those of the initial pid
namespace, so a reader elsewhere cannot use them.
"""

from __future__ import annotations

import os
import re
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

KMSG = "/dev/kmsg"
#: Events remembered; older ones make room.
EVENTS_MAX = 1000
#: Records read in one go: more than the largest ring buffer holds would be an endless flood.
RECORDS_MAX = 100_000
_RECORD_BYTES = 8192
_LINE_CHARACTERS = 300
#: The inode of the initial pid namespace is a constant of the kernel (PROC_PID_INIT_INO).
_INITIAL_PID_NAMESPACE = "pid:[4026531836]"

OUT_OF_MEMORY = "out of memory"
FAULT = "fault"
XID = "xid"


@dataclass(frozen=True, slots=True)
class KernelEvent:
    """One line that names a process. at_s is on the monotonic clock. what: a signal's name or an Xid."""

    kind: str
    pid: int | None
    at_s: float
    what: str
    line: str


def parse_event(line: str, at_s: float) -> KernelEvent | None:
    """Return what a line of the kernel says about a process, None for every other line."""
    shown = line[:_LINE_CHARACTERS]
    for pattern in (_KILLED, _OOM_KILL):
        match = pattern.search(line)
        if match:
            return KernelEvent(OUT_OF_MEMORY, int(match[1]), at_s, "SIGKILL", shown)
    match = _SEGFAULT.match(line)
    if match:
        return KernelEvent(FAULT, int(match[1]), at_s, "SIGSEGV", shown)
    match = _TRAP.match(line)
    if match:
        return KernelEvent(FAULT, int(match[1]), at_s, _TRAP_SIGNALS.get(match[2], "SIGSEGV"), shown)
    match = _XID.search(line)
    if match:
        pid = _XID_PID.search(match[2])
        return KernelEvent(XID, int(pid[1]) if pid else None, at_s, match[1], shown)
    return None


def parse_record(record: bytes) -> tuple[float, str] | None:
    """Return (seconds since boot, text) of a record of /dev/kmsg; None where user space wrote it."""
    head, separator, rest = record.partition(b";")
    fields = head.split(b",")
    if not separator or len(fields) < 3:
        return None
    try:
        priority, microseconds = int(fields[0]), int(fields[2])
    except ValueError:
        return None
    if priority >> 3 != 0:
        return None  # the facility; the kernel gives its own to nobody else
    return microseconds / 1e6, rest.partition(b"\n")[0].decode("utf-8", "replace")


class KernelLog:
    """Reads the kernel's log when asked to. For one thread."""

    def __init__(
        self,
        monotonic: Callable[[], float],
        path: str = KMSG,
        pid_namespace: str = "/proc/self/ns/pid",
    ) -> None:
        self.problem = ""  #: why it tells nothing
        self.lost = 0  #: times that the kernel overwrote records before they were read
        self._monotonic = monotonic
        self._events: deque[KernelEvent] = deque(maxlen=EVENTS_MAX)
        self._read_at: float | None = None
        self._fd = -1
        try:
            if os.readlink(pid_namespace) != _INITIAL_PID_NAMESPACE:
                self.problem = "the agent is in a pid namespace of its own: the kernel's log names other pids"
                return
            self._fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            self.problem = f"{error.filename}: {error.strerror}"

    def read(self) -> None:
        """Take in what is new."""
        if self._fd < 0:
            return
        now = self._monotonic()
        for _ in range(RECORDS_MAX):
            try:
                record = os.read(self._fd, _RECORD_BYTES)
            except BlockingIOError:
                break
            except BrokenPipeError:
                self.lost += 1
                continue
            except OSError as error:
                self.problem = f"cannot be read any more: {error.strerror}"
                self.close()
                break
            if not record:
                break
            parsed = parse_record(record)
            event = None if parsed is None else parse_event(parsed[1], self._clamped(parsed[0], now))
            if event is not None:
                self._events.append(event)
        self._read_at = now

    def _clamped(self, at_s: float, now: float) -> float:
        """Return when an event was: the kernel's log has a clock of its own, which drifts over weeks."""
        return min(at_s if self._read_at is None else max(at_s, self._read_at), now)

    def about(self, pid: int, after_s: float, before_s: float) -> list[KernelEvent]:
        """Return what was said about a process between two times, oldest first."""
        return [each for each in self._events if each.pid == pid and after_s <= each.at_s <= before_s]

    def gpu_errors(self, after_s: float, before_s: float) -> list[KernelEvent]:
        """Return the Xids between two times, whichever process they name or none."""
        return [each for each in self._events if each.kind == XID and after_s <= each.at_s <= before_s]

    def close(self) -> None:
        """Close the log."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


# A process's name has at most 15 bytes, too few to hold what follows the pid in these lines.
_KILLED = re.compile(
    r"^(?:Memory cgroup out of memory|Out of memory(?: \([a-z_ ]+\))?): Kill(?:ed)? process (\d+) "
)
_OOM_KILL = re.compile(r"^oom-kill:constraint=.*,pid=(\d+),uid=\d+$")
_SEGFAULT = re.compile(r"^.{0,16}\[(\d+)\]: segfault at [0-9a-f]+ ip [0-9a-f]+ sp [0-9a-f]+ ")
_TRAP = re.compile(
    r"^traps: .{0,16}\[(\d+)\] (general protection fault|(?:trap )?[a-z][a-z ]*?) ip:[0-9a-f]+ sp:[0-9a-f]+ "
)
_TRAP_SIGNALS = {
    "general protection fault": "SIGSEGV",
    "trap invalid opcode": "SIGILL",
    "trap divide error": "SIGFPE",
    "trap int3": "SIGTRAP",
    "trap stack segment": "SIGBUS",
}
_XID = re.compile(r"^NVRM: Xid \([^)]{1,60}\): (\d+),(.*)")
_XID_PID = re.compile(r"^ pid=(\d+),")
