"""What one log() was given, when it is not plain numbers: numbers, texts and rich values.

Slower than the fast path in _run.py, and careful: values may be foreign code, and of any size.
"""

import errno

from . import _loading
from ._interrupted import let_go
from ._recorder import Recorder
from ._values import UnsupportedError, flatten, split_in_half, to_number_or_text
from .protocol.bodies import Value, pack
from .protocol.errors import BodyError
from .protocol.kinds import LINE_BYTES_MAX, METRICS, VALUE
from .protocol.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List, Optional, Set, Tuple


#: A body longer than this is split over several lines.
BODY_BYTES_MAX = LINE_BYTES_MAX - 16
#: Names in one line; the format has a limit of 2**17 elements in a map.
NAMES_MAX = 100000
#: Steps beyond are not taken, so that one more always fits.
STEP_MAX = 2**62
#: Characters of a foreign exception's message that are repeated to the user.
MESSAGE_CHARACTERS_MAX = 500


class Logged(NamedTuple):
    """What one log() was given, by kind."""

    numbers: "Dict[str, Any]"
    texts: "Dict[str, str]"
    others: "Dict[str, Any]"  #: rich values, not encoded yet
    number_types: "Set[type]"
    refused: "List[str]"  #: name and reason
    odd_names: bool  #: some name was no string


def sort_out(data: "Any") -> Logged:
    """Return the numbers, texts and rich values in data by full name, and what was wrong with the rest."""
    logged = Logged({}, {}, {}, set(), [], not all(isinstance(name, str) for name in data))
    for name, value in flatten(data):
        try:
            plain = to_number_or_text(value)
        except Exception as error:  # noqa: BLE001 - .item() and __float__ are foreign code
            _sort_out_other(logged, name, value, error)
            continue
        if isinstance(plain, str):
            logged.texts[name] = plain
        else:
            logged.numbers[name] = plain
            logged.number_types.add(type(value))
    return logged


def _sort_out_other(logged: Logged, name: str, value: "Any", error: Exception) -> None:
    rich = None
    if value is not None:
        try:
            with _loading.lock:
                from . import _rich  # which only those pay for who log such values

            rich = _rich.find(value)
        except Exception as problem:  # noqa: BLE001 - figures and arrays are foreign code
            error = problem
    if rich is None:
        logged.refused.append(refusal(name, error))
    else:
        logged.others[name] = rich


def refusal(name: str, error: BaseException) -> str:
    """Return what to tell of a value that is not recorded."""
    return "%s (%s)" % (name, describe(error))


def describe(error: BaseException) -> str:
    """Return what to tell the user of an exception, whatever its own str() does."""
    kind = "" if isinstance(error, (UnsupportedError, BodyError)) else type(error).__name__ + ": "
    try:
        message = str(error)
    except Exception:  # noqa: BLE001 - a foreign exception may be as broken as what raised it
        message = "it has no message"
    return kind + message[:MESSAGE_CHARACTERS_MAX]


def to_step(step: "Any") -> "Optional[int]":
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


def record_numbers(recorder: Recorder, step: int, numbers: "Dict[str, Any]") -> None:
    """Write numbers at a step, in as many lines as they need."""
    if not numbers:
        return
    body = pack((recorder.time(), step, numbers)) if len(numbers) <= NAMES_MAX else b""
    if not 0 < len(body) <= BODY_BYTES_MAX and len(numbers) > 1:
        for part in split_in_half(numbers):
            record_numbers(recorder, step, part)
        return
    recorder.write(METRICS, body)


def record_texts(recorder: Recorder, step: int, texts: "Dict[str, str]") -> None:
    """Write each text at a step as a line of its own."""
    for name, text in texts.items():
        recorder.write(VALUE, Value(recorder.time(), step, name, "text", text).encode())


def record_others(
    recorder: Recorder, directory: str, step: int, others: "Dict[str, Any]"
) -> "Tuple[Dict[str, Any], List[str]]":
    """Encode rich values and write each at a step as a line of its own, its files before it.

    Not to be called with the recorder's lock held: encoding takes as long as it takes, and runs foreign
    code. directory: the run's. Return what the summary shows of them, and the name and reason of what
    could not be encoded. A file that could not be written is counted as a lost record here.
    """
    with _loading.lock:
        from . import _rich

    shown: Dict[str, Any] = {}
    refused: List[str] = []
    for name, rich in others.items():
        try:
            encoded = _rich.encode(rich, _rich.Media(directory, name, step))
            assert encoded is not None  # sort_out() has found that it is one
            body = Value(recorder.time(), step, name, encoded.type, encoded.data).encode()
        except _rich.StorageError as error:
            _lose(recorder, error.error)
            continue
        except Exception as error:  # noqa: BLE001 - encoding runs foreign code
            refused.append(refusal(name, error))
            continue
        shown[name] = encoded.in_a_map()
        recorder.write(VALUE, body)
    return shown, refused


def _lose(recorder: Recorder, error: OSError) -> None:
    if error.errno == errno.EBADF:
        # That of the file was closed by somebody. Of the stream's own descriptor this says nothing.
        error = OSError(errno.EIO, error.strerror)
    try:
        with recorder.lock:
            recorder.lose(VALUE, error)
    except BaseException:
        let_go(recorder)
        raise
