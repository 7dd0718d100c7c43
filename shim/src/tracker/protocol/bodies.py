"""Layouts of record bodies: one encoder and one decoder per kind (docs/record-format.md).

Bodies are msgpack arrays; readers ignore elements they do not know at the end, writers may add
some. Decoders raise BodyError and nothing else, whatever the bytes.
"""

import msgpack

from . import kinds
from .errors import BodyError
from .kinds import INT_MAX, INT_MIN
from .tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple, Union

    Number = Union[int, float]
    Window = Tuple[float, float, float, float, int]
else:
    Number, Window = float, tuple


#: No array or map in a body is longer, so that decoding costs no more than the body's size.
ELEMENTS_MAX = 2**17


def pack(value: "Any") -> bytes:
    """Return value as msgpack, strings as UTF-8 (lone surrogates kept).

    Raise BodyError for what msgpack cannot hold: other types, integers outside
    [-2**63, 2**64), nesting without end.
    """
    try:
        packed = msgpack.packb(value, use_bin_type=True, unicode_errors="surrogatepass")
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise BodyError("cannot be written as msgpack: %s" % (str(error) or type(error).__name__)) from error
    assert isinstance(packed, bytes)
    if len(packed) > ELEMENTS_MAX:
        unpack(packed)
    return packed


def pack_tree(value: "Any") -> bytes:
    """Return value as msgpack that unpack accepts: keys of maps at any depth become strings."""
    packed = pack(value)
    try:
        unpack(packed)
    except BodyError:
        try:
            value = _with_string_keys(value)
        except RecursionError as error:
            raise BodyError("cannot be written as msgpack: nested too deeply") from error
        packed = pack(value)
        unpack(packed)
    return packed


def _with_string_keys(value: "Any") -> "Any":
    if isinstance(value, dict):
        return {k if isinstance(k, str) else str(k): _with_string_keys(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return list(map(_with_string_keys, value))
    return value


def unpack(body: bytes) -> "Any":
    """Return the value in body. Raise BodyError when it is not exactly one msgpack value.

    What is not UTF-8 in a string, lone surrogates too, comes as U+FFFD: databases and JSON
    refuse such strings. Timestamps come as floats; other extension types are refused, and so
    are maps with numbers for keys, whose hashes a hostile writer could make collide.
    """
    try:
        return msgpack.unpackb(
            body,
            raw=False,
            strict_map_key=True,
            unicode_errors="replace",
            timestamp=1,
            ext_hook=_refuse_extension,
            max_array_len=ELEMENTS_MAX,
            max_map_len=ELEMENTS_MAX,
        )
    except _UNPACK_ERRORS as error:
        raise BodyError("not msgpack: %s" % (str(error) or type(error).__name__)) from error


_UNPACK_ERRORS = (ValueError, TypeError, OverflowError, RecursionError, MemoryError, msgpack.UnpackException)


def _refuse_extension(code: int, _data: bytes) -> "Any":
    raise BodyError("extension type %d" % code)


def unpack_fields(body: bytes, *kinds: "Optional[Tuple[type, ...]]") -> "Tuple[Any, ...]":
    """Return the first elements of the array in body, one for each tuple of allowed types.

    None in place of a tuple allows any type.
    """
    return _check_fields(unpack(body), *kinds)


def _check_fields(fields: "Any", *kinds: "Optional[Tuple[type, ...]]") -> "Tuple[Any, ...]":
    if type(fields) is not list or len(fields) < len(kinds):
        raise BodyError("not an array of %d" % len(kinds))
    for index, allowed in enumerate(kinds):
        value = fields[index]
        if allowed is None:
            continue
        if type(value) not in allowed:
            raise BodyError("element %d is a %s" % (index, type(value).__name__))
        if type(value) is int and not INT_MIN <= value <= INT_MAX:
            raise BodyError("element %d is out of range" % index)
    return tuple(fields[: len(kinds)])


def check_names(names: "Dict[Any, Any]") -> None:
    """Raise BodyError unless every key of a map is a string."""
    for name in names:
        if type(name) is not str:
            raise BodyError("a name is a %s" % type(name).__name__)


_NUMBER = frozenset((int, float, bool))
_NONE = type(None)


class Metrics(NamedTuple):
    """METRICS: numbers logged together. step None: one more than the stream's greatest so far, or 0."""

    time: int
    step: "Optional[int]"
    values: "Dict[str, Number]"

    def encode(self) -> bytes:
        return pack([self.time, self.step, self.values])


def decode_metrics(body: bytes) -> Metrics:
    """Decode METRICS."""
    time, step, values = unpack_fields(body, (int,), (int, _NONE), (dict,))
    check_names(values)
    if not _NUMBER.issuperset(map(type, values.values())):
        raise BodyError("a value is not a number")
    return Metrics(time, step, values)


class Value(NamedTuple):
    """VALUE: one rich value (text, histogram, reference to media or a table)."""

    time: int
    step: "Optional[int]"
    name: str
    type: str
    data: "Any"

    def encode(self) -> bytes:
        return pack_tree(list(self))


def decode_value(body: bytes) -> Value:
    """Decode VALUE."""
    return Value(*unpack_fields(body, (int,), (int, _NONE), (str,), (str,), None))


class Console(NamedTuple):
    """CONSOLE: whole lines of output, without their line ends."""

    time: int
    stream: str  #: "stdout" or "stderr"
    lines: "List[str]"

    def encode(self) -> bytes:
        return pack(list(self))


def decode_console(body: bytes) -> Console:
    """Decode CONSOLE."""
    time, stream, lines = unpack_fields(body, (int,), (str,), (list,))
    if stream not in ("stdout", "stderr") or any(type(line) is not str for line in lines):
        raise BodyError("not lines of stdout or stderr")
    return Console(time, stream, lines)


class Patch(NamedTuple):
    """CONFIG and SUMMARY: keys to set, each whole, and keys to remove."""

    time: int
    set: "Dict[str, Any]"
    removed: "Sequence[str]" = ()

    def encode(self) -> bytes:
        return pack_tree([self.time, self.set, list(self.removed)])


def decode_patch(body: bytes) -> Patch:
    """Decode CONFIG or SUMMARY."""
    time, values, removed = unpack_fields(body, (int,), (dict,), (list,))
    check_names(values)
    if any(type(name) is not str for name in removed):
        raise BodyError("a removed key is not a string")
    return Patch(time, values, removed)


class Run(NamedTuple):
    """RUN: what the run is called and where it belongs. Keys present replace earlier ones.

    Known: project, entity, name, notes, group, job_type (strings), tags (list of strings),
    metrics (list of define_metric maps). Unknown keys are kept.
    """

    time: int
    fields: "Dict[str, Any]"

    def encode(self) -> bytes:
        return pack_tree(list(self))


_RUN_STRINGS = ("project", "entity", "name", "notes", "group", "job_type")


def decode_run(body: bytes) -> Run:
    """Decode RUN."""
    time, fields = unpack_fields(body, (int,), (dict,))
    check_names(fields)
    for name in _RUN_STRINGS:
        if name in fields and type(fields[name]) is not str:
            raise BodyError("%s is not a string" % name)
    tags = fields.get("tags", [])
    if type(tags) is not list or any(type(tag) is not str for tag in tags):
        raise BodyError("tags are not a list of strings")
    return Run(time, fields)


class File(NamedTuple):
    """FILE: a file kept with the run, by content."""

    time: int
    path: str
    sha256: bytes
    size: int
    policy: str  #: "now", "live" or "end"

    def encode(self) -> bytes:
        return pack(list(self))


def decode_file(body: bytes) -> File:
    """Decode FILE."""
    time, path, sha256, size, policy = unpack_fields(body, (int,), (str,), (bytes,), (int,), (str,))
    if len(sha256) != 32 or size < 0:
        raise BodyError("not a SHA-256 digest and a size")
    return File(time, path, sha256, size, policy)


class Alert(NamedTuple):
    """ALERT: a message for a person. level is "info", "warn" or "error".

    facts say the same to programs, such as {"xid": 79}.
    """

    time: int
    title: str
    text: str
    level: str
    facts: "Optional[Dict[str, Any]]" = None

    def encode(self) -> bytes:
        fields = list(self)
        return pack_tree(fields) if self.facts else pack(fields[:4])


def decode_alert(body: bytes) -> Alert:
    """Decode ALERT."""
    fields = unpack(body)
    time, title, text, level = _check_fields(fields, (int,), (str,), (str,), (str,))
    return Alert(time, title, text, level, _facts(fields, 4))


def _facts(fields: "List[Any]", index: int) -> "Optional[Dict[str, Any]]":
    """Return the map at the end of a body that came later than the rest: what is none is another writer's."""
    facts = fields[index] if len(fields) > index else None
    known = type(facts) is dict and all(type(name) is str for name in facts)
    return facts if known else None


class Exit(NamedTuple):
    """EXIT: how a writer ended. exception has type, message and traceback (strings).

    facts may hold `signal` and `pid` (a supervisor saw that process end so), `stopped_by` and `request`.
    """

    time: int
    code: int
    exception: "Optional[Dict[str, str]]" = None
    facts: "Optional[Dict[str, Any]]" = None

    def encode(self) -> bytes:
        fields = list(self)
        return pack_tree(fields if self.facts else fields[:3])


def decode_exit(body: bytes) -> Exit:
    """Decode EXIT."""
    fields = unpack(body)
    time, code, exception = _check_fields(fields, (int,), (int,), (dict, _NONE))
    if exception is not None and any(type(x) is not str for pair in exception.items() for x in pair):
        raise BodyError("the exception is not a map of strings")
    return Exit(time, code, exception, _facts(fields, 3))


#: mean, min, max, last, count of one metric in one window


class Sample(NamedTuple):
    """SAMPLE: host metrics of one window that ended at `time`. window is its length in ns.

    about names a stream of that host by the uid that owns it and its id: the window is about the writer of
    that stream then, not about the machine.
    """

    time: int
    window: int
    values: "Dict[str, Window]"
    about: "Optional[Tuple[int, bytes]]" = None

    def encode(self) -> bytes:
        return pack(list(self) if self.about else list(self[:3]))


def decode_sample(body: bytes) -> Sample:
    """Decode SAMPLE."""
    fields = unpack(body)
    time, window, values = _check_fields(fields, (int,), (int,), (dict,))
    check_names(values)
    windows = {}
    for name, numbers in values.items():
        if type(numbers) is not list or len(numbers) < 5 or not _NUMBER.issuperset(map(type, numbers)):
            raise BodyError("a window is not mean, min, max, last, count")
        windows[name] = tuple(numbers[:5])
    return Sample(time, window, windows, _about(fields))


def _about(fields: "List[Any]") -> "Optional[Tuple[int, bytes]]":
    """Return the uid and stream at the end of a SAMPLE; what is something else is another writer's."""
    about = fields[3] if len(fields) > 3 else None
    if type(about) is not list or [type(part) for part in about[:2]] != [int, bytes]:
        return None
    uid, stream = about[:2]
    return (uid, stream) if INT_MIN <= uid <= INT_MAX and len(stream) == 16 else None


class Host(NamedTuple):
    """HOST: inventory of the machine; replaces the former one."""

    time: int
    inventory: "Dict[str, Any]"

    def encode(self) -> bytes:
        return pack_tree(list(self))


def decode_host(body: bytes) -> Host:
    """Decode HOST."""
    time, inventory = unpack_fields(body, (int,), (dict,))
    check_names(inventory)
    return Host(time, inventory)


class Observed(NamedTuple):
    """OBSERVED: what the agent saw of the writer of another stream of this host.

    state is "live" or "gone"; facts may hold pid, cause and whatever evidence there is.
    """

    time: int
    uid: int
    stream: bytes
    state: str
    facts: "Dict[str, Any]"

    def encode(self) -> bytes:
        return pack_tree(list(self))


def decode_observed(body: bytes) -> Observed:
    """Decode OBSERVED."""
    time, uid, stream, state, facts = unpack_fields(body, (int,), (int,), (bytes,), (str,), (dict,))
    if len(stream) != 16 or state not in ("live", "gone"):
        raise BodyError("not a stream id and a state")
    check_names(facts)
    return Observed(time, uid, stream, state, facts)


class Lost(NamedTuple):
    """LOST: the writer had to drop that many records, and why."""

    time: int
    records: int
    reason: str

    def encode(self) -> bytes:
        return pack(list(self))


def decode_lost(body: bytes) -> Lost:
    """Decode LOST."""
    lost = Lost(*unpack_fields(body, (int,), (int,), (str,)))
    if lost.records < 0:
        raise BodyError("a count is negative")
    return lost


#: The decoder of each kind but HEADER, which is no body but a line of its own (header.py).
DECODERS: "Dict[int, Callable[[bytes], Any]]" = {
    kinds.METRICS: decode_metrics,
    kinds.VALUE: decode_value,
    kinds.CONSOLE: decode_console,
    kinds.CONFIG: decode_patch,
    kinds.SUMMARY: decode_patch,
    kinds.RUN: decode_run,
    kinds.FILE: decode_file,
    kinds.ALERT: decode_alert,
    kinds.EXIT: decode_exit,
    kinds.SAMPLE: decode_sample,
    kinds.HOST: decode_host,
    kinds.OBSERVED: decode_observed,
    kinds.LOST: decode_lost,
}
