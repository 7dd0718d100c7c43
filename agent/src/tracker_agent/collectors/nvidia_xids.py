"""What Xids mean and what to do about them. An Xid is the number the driver gives a kind of trouble.

"warn" are those that a program causes far more often than the hardware, and those that only tell; "error"
are those after which the GPU, or the whole machine, needs somebody.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

_FIX_THE_PROGRAM = "Look for a bug in the program first: compute-sanitizer finds most of them."
_RESTART = "Start the program again. If it comes back on this GPU alone, have the GPU looked at."
_RESET = "Drain the GPU and reset it (nvidia-smi -r); reboot if that does not help."
_REBOOT = "Reboot the machine. If it comes back, have GPU, power and slot looked at."
_REPORT = "Collect nvidia-bug-report.sh and have the hardware looked at."
_NOTHING = "Nothing to do by itself."
_LINKS = "Look at the NVLinks (nvidia-smi nvlink -e), cables and switches; reset the GPUs of this fabric."


class Xid(NamedTuple):
    """One kind of trouble."""

    level: str
    meaning: str
    advice: str


XIDS: Mapping[int, Xid] = {
    8: Xid("warn", "a kernel ran for too long", _RESTART),
    13: Xid("warn", "a kernel failed, mostly by reading or writing out of bounds", _FIX_THE_PROGRAM),
    31: Xid("warn", "a program used an address of GPU memory that is not its own", _FIX_THE_PROGRAM),
    32: Xid("error", "the GPU got commands that make no sense", _RESTART),
    38: Xid("error", "the firmware of the driver failed", _RESET),
    43: Xid("warn", "a program's work on the GPU was stopped after an error", _FIX_THE_PROGRAM),
    45: Xid("warn", "the work of a program was cleared away, as after a kill or another Xid", _NOTHING),
    46: Xid("error", "the GPU does not stop working", _RESET),
    48: Xid("error", "memory lost data: an uncorrectable ECC error", _RESET),
    54: Xid("error", "the GPU has not enough power from its connectors", "Look at the power cables."),
    62: Xid("error", "the controller of the GPU halted", _RESET),
    63: Xid("warn", "memory is being replaced: a row was remapped or a page retired", _NOTHING),
    64: Xid("error", "memory could not be replaced", _RESET),
    68: Xid("error", "the video decoder failed", _RESTART),
    69: Xid("error", "the graphics engine failed", _RESTART),
    74: Xid("error", "an NVLink failed", _LINKS),
    79: Xid("error", "the GPU has fallen off the bus", _REBOOT),
    92: Xid("warn", "many memory errors are being corrected", _NOTHING),
    94: Xid("error", "memory lost data, and only the program using it is affected", _RESTART),
    95: Xid("error", "memory lost data, and every program on the GPU may be affected", _RESET),
    109: Xid("error", "switching between programs took too long", _RESET),
    110: Xid("error", "a security fault", _RESET),
    119: Xid("error", "the GPU's own processor (GSP) does not answer", _RESET),
    120: Xid("error", "the GPU's own processor (GSP) failed", _RESET),
    121: Xid("warn", "errors of the link to the processor (C2C) were corrected", _NOTHING),
    136: Xid("error", "an NVLink fault that needs a reset", _RESET),
    137: Xid("warn", "another GPU used an NVLink address that is not there", _FIX_THE_PROGRAM),
    140: Xid("error", "memory lost data that the driver cannot recover", _RESET),
    143: Xid("error", "the GPU could not be started", _RESET),
    **{number: Xid("error", "an NVLink of generation 5 failed", _LINKS) for number in range(144, 151)},
    154: Xid("error", "the driver asks for something to get the GPU back", "See recovery_action.code."),
    155: Xid("error", "an NVLink or its software failed", _RESET),
    156: Xid("error", "a part of the GPU is being given up", _RESET),
    158: Xid("error", "a fatal timeout within the GPU", _RESET),
    160: Xid("warn", "a part of the memory is being given up", _NOTHING),
    161: Xid("warn", "a part of the memory could not be given up", _NOTHING),
}
_UNKNOWN = Xid("error", "trouble that is not in this list", _REPORT)


def look_up(number: int) -> Xid:
    """Return what an Xid means."""
    return XIDS.get(number, _UNKNOWN)
