"""Why a writer is gone: what was found out about its end, and what that proves. Pure functions.

Nothing is guessed. A cause is named where a fact shows it, and the facts go along; otherwise it is
"vanished, cause unknown", with what could not be looked at.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .exit_status import ExitStatus
from .kernel_log import FAULT, OUT_OF_MEMORY, XID, KernelEvent

EXITED = "exit"
REBOOT = "reboot"
KILLED_FOR_MEMORY = "out of memory: the kernel killed it"
RUNS_ON = "its process runs on without it"
UNKNOWN = "vanished, cause unknown"
#: Lines of the kernel's log that travel as evidence, and the length of any text.
LINES_MAX = 4
TEXT_CHARACTERS_MAX = 1000


@dataclass(frozen=True, slots=True)
class MemoryKills:
    """How often the kernel killed in a memory cgroup while the writer was in it."""

    path: str  #: as the kernel names the group
    own: int | None  #: in the writer's own group; None: it cannot be read any more, as the group is gone
    above: int  #: in groups above, which count for all below them
    since_s: float  #: how long before the end the count was taken
    limit: tuple[str, int] | None = None  #: the nearest group with a limit, and that limit in bytes


@dataclass(frozen=True, slots=True)
class Findings:
    """What was found out when a writer had died. missing: what could not be looked at, and why."""

    status: ExitStatus | None = None
    memory: MemoryKills | None = None
    kernel: Sequence[KernelEvent] = ()  #: what the kernel said about this process
    gpu: Sequence[KernelEvent] = ()  #: errors of GPUs shortly before, whosoever
    missing: Sequence[str] = ()
    runs_on: bool = False  #: the process is there, and does not write this stream any more
    witnessed: bool = True  #: looked at when it had just died, so that its pid was its own


@dataclass(frozen=True, slots=True)
class Verdict:
    """A cause, the numbers that go with it, and what shows it."""

    cause: str
    facts: Mapping[str, Any]
    evidence: Mapping[str, str]


def judge(findings: Findings, *, exited: bool, boot: str, boot_now: str) -> Verdict:
    """Return why a writer is gone. exited: its stream ends with an EXIT."""
    evidence = _describe(findings)
    if exited:
        evidence.pop("missing", None)
        return Verdict(EXITED, {}, evidence)
    if boot and boot != boot_now:
        return Verdict(REBOOT, {}, {"boot": f"it wrote under boot {boot}, now it is {boot_now}"})
    status = findings.status
    facts = {} if status is None else {"code": status.code} if status.signal is None else _signal_of(status)
    return Verdict(_cause(findings), facts, evidence)


def _cause(findings: Findings) -> str:
    status, memory = findings.status, findings.memory
    by_kind = {event.kind: event for event in findings.kernel}
    if not findings.witnessed:
        # Others may have had its pid, or died in its group since: two facts have to agree.
        in_group = memory is not None and memory.own != 0
        return KILLED_FOR_MEMORY if OUT_OF_MEMORY in by_kind and in_group else UNKNOWN
    may_be_memory = status is None or status.signal == 9
    if may_be_memory and (OUT_OF_MEMORY in by_kind or (memory is not None and (memory.own or 0) > 0)):
        return KILLED_FOR_MEMORY
    if status is not None and status.signal is not None:
        return f"killed by {status.signal_name}" + (" (core dumped)" if status.core else "")
    if status is not None:
        return f"ended with code {status.code} and without a word"
    if FAULT in by_kind:
        return f"killed by {by_kind[FAULT].what}"
    if XID in by_kind:
        return f"GPU error (Xid {by_kind[XID].what})"
    if findings.runs_on:
        return RUNS_ON
    return UNKNOWN


def _signal_of(status: ExitStatus) -> dict[str, Any]:
    return {"signal": status.signal}


def _describe(findings: Findings) -> dict[str, str]:
    texts = {}
    if findings.status is not None:
        status = findings.status
        how = f"code {status.code}" if status.signal is None else status.signal_name
        texts["wait"] = f"{how}, as the kernel told by the {status.source}"
    memory = findings.memory
    if memory is not None and (memory.own is None or memory.own or memory.above):
        texts["cgroup"] = _describe_memory(memory)
    if findings.kernel:
        texts["kernel"] = "\n".join(event.line for event in findings.kernel[-LINES_MAX:])
    if findings.gpu:
        texts["gpu"] = "\n".join(event.line for event in findings.gpu[-LINES_MAX:])
    if findings.missing:
        texts["missing"] = "; ".join(findings.missing)
    return {name: text[:TEXT_CHARACTERS_MAX] for name, text in texts.items()}


def _describe_memory(memory: MemoryKills) -> str:
    if memory.own is None:
        kills = "is gone"
        if memory.above:
            kills += f"; {_times(memory.above)} in a group above it"
    elif memory.own:
        kills = f"{_times(memory.own)} in it"
    else:
        kills = f"{_times(memory.above)} in a group above it"
    text = f"memory group {memory.path}: {kills} within the last {memory.since_s:.0f} s of its life"
    if memory.limit is not None:
        text += f"; {memory.limit[0]} is limited to {memory.limit[1]} bytes"
    return text


def _times(count: int) -> str:
    return "the kernel killed a process for memory" if count == 1 else f"the kernel killed {count} for memory"
