"""What one log() was given, when it is not plain numbers: sorted into numbers and texts, and recorded.

Slower than the fast path in _run.py, and careful: values may be foreign code, and of any size.
"""

from typing import Any, Dict, List, NamedTuple, Optional, Set

from ._recorder import Recorder
from ._values import UnsupportedError, flatten, split_in_half, to_number_or_text
from .protocol.bodies import Value, pack
from .protocol.kinds import LINE_BYTES_MAX, METRICS, VALUE

#: A body longer than this is split over several lines.
BODY_BYTES_MAX = LINE_BYTES_MAX - 16
#: Names in one line; the format has a limit of 2**17 elements in a map.
NAMES_MAX = 100000
#: Steps beyond are not taken, so that one more always fits.
STEP_MAX = 2**62

Logged = NamedTuple(
    "Logged",
    [
        ("numbers", Dict[str, Any]),
        ("texts", Dict[str, str]),
        ("number_types", Set[type]),
        ("refused", List[str]),  # name and reason
        ("odd_names", bool),  # some name was no string
    ],
)


def sort_out(data: Any) -> Logged:
    """Return the numbers and the texts in data by full name, and what was wrong with the rest."""
    logged = Logged({}, {}, set(), [], not all(isinstance(name, str) for name in data))
    for name, value in flatten(data):
        try:
            plain = to_number_or_text(value)
        except Exception as error:  # noqa: BLE001 - .item() and __float__ are foreign code
            kind = "" if isinstance(error, UnsupportedError) else type(error).__name__ + ": "
            logged.refused.append("%s (%s%s)" % (name, kind, error))
            continue
        if isinstance(plain, str):
            logged.texts[name] = plain
        else:
            logged.numbers[name] = plain
            logged.number_types.add(type(value))
    return logged


def to_step(step: Any) -> Optional[int]:
    """Return the integer that a step is; None stays None. Raise UnsupportedError."""
    if step is None or (type(step) is int and -STEP_MAX < step < STEP_MAX):
        return step
    try:
        number = to_number_or_text(step)
        if not isinstance(number, str) and number == int(number) and -STEP_MAX < number < STEP_MAX:
            return int(number)
    except Exception:  # noqa: BLE001, S110 - .item() is foreign code; NaN and infinity have no integer
        pass
    raise UnsupportedError("step %r is not an integer" % (step,))


def record_numbers(recorder: Recorder, step: int, numbers: Dict[str, Any]) -> None:
    """Write numbers at a step, in as many lines as they need."""
    if not numbers:
        return
    body = pack((recorder.time(), step, numbers)) if len(numbers) <= NAMES_MAX else b""
    if not 0 < len(body) <= BODY_BYTES_MAX and len(numbers) > 1:
        for part in split_in_half(numbers):
            record_numbers(recorder, step, part)
        return
    recorder.write(METRICS, body)


def record_texts(recorder: Recorder, step: int, texts: Dict[str, str]) -> None:
    """Write each text at a step as a line of its own."""
    for name, text in texts.items():
        recorder.write(VALUE, Value(recorder.time(), step, name, "text", text).encode())
