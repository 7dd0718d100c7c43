"""The helper's stream of a run: created with the first record, which is where its clock begins."""

from typing import Callable

from ._recorder import Recorder
from .protocol.bodies import Lost
from .protocol.kinds import LOST


def record(recorder: Recorder, kind: int, encode: Callable[[int], bytes]) -> bool:
    """Append a record; encode is given the time. Return whether it is kept."""
    with recorder.lock:
        if not recorder.clock_offset:
            try:
                recorder.open()
            except OSError:  # the write below counts it as lost
                pass
        return recorder.write(kind, encode(recorder.time()))


def lose(recorder: Recorder, reason: str) -> None:
    """Record that something could not be kept, and why."""
    record(recorder, LOST, lambda time: Lost(time, 1, reason).encode())
