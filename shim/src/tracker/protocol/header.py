"""HEADER: the first line of every segment says whose bytes follow."""

import zlib

import msgpack

from .codec import encode_line, line_bytes, parse_start, start_pattern
from .errors import HeaderError, IncompleteError
from .kinds import FORMAT_VERSION, HEADER, INT_MAX, SEGMENT_NUMBER_MAX
from .tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, Optional, Tuple


#: A HEADER line is never longer, so that a reader knows when to stop waiting for one.
HEADER_BYTES_MAX = 64 * 1024
SERVER_CHARACTERS_MAX = 2048
#: What `gpus` may hold at most: variables, and characters of each.
GPU_VARIABLES_MAX = 8
GPU_CHARACTERS_MAX = 1024
#: Characters of `role`.
ROLE_CHARACTERS_MAX = 32

#: What a writer is, where it is none of those that train:
#: The process that looks after the console and files of the training: its end says nothing about the run.
HELPER = "helper"
#: The parent's writer goes on here: its descriptors were closed under it, and it lives.
AGAIN = "again"
#: A program that started the training and waits for it. Has no parent.
SUPERVISOR = "supervisor"
#: A program that adds to a run in passing, such as a command of a shell script.
ASIDE = "aside"


class Header(NamedTuple):
    """Identity of one segment. Times are integer nanoseconds."""

    stream: bytes  #: 16 random bytes
    run: "Optional[str]"  #: run id; None for a stream about the host itself
    segment: int
    base: int  #: bytes of the stream in earlier segments
    machine: str
    boot: str
    pid: int
    started: int  #: wall clock at start, ns since 1970
    clock: int  #: monotonic clock at the same moment, ns
    writer: str  #: software and version, such as "tracker-shim/0.1.0"
    host: str = ""
    rank: "Optional[int]" = None
    offline: bool = False  #: to be shipped by `sync` only, never by the agent on its own
    stop: "Optional[bool]" = None  #: the writer looks for a request to stop
    version: int = FORMAT_VERSION
    server: "Optional[str]" = None  #: address of the server that the run is for; None: the agent's default
    account: "Optional[str]" = (
        None  #: whose key ships it, as the owner's credentials call it; None: no choice
    )
    gpus: "Optional[Dict[str, str]]" = None  #: what the environment said about GPUs, by variable
    parent: "Optional[bytes]" = (
        None  #: the stream of whoever started this writer: forked it, handed it the run
    )
    role: "Optional[str]" = None  #: HELPER, AGAIN, SUPERVISOR, ASIDE, or what later versions know


_REQUIRED = {
    "version": int,
    "stream": bytes,
    "segment": int,
    "base": int,
    "machine": str,
    "boot": str,
    "pid": int,
    "started": int,
    "clock": int,
    "writer": str,
}


def encode_header(header: Header) -> bytes:
    """Return the HEADER line of a segment."""
    body = {name: value for name, value in header._asdict().items() if value is not None}
    # A host's name may hold bytes that are no UTF-8; init() must not fail for that.
    packed = msgpack.packb(body, use_bin_type=True, unicode_errors="surrogatepass")
    assert isinstance(packed, bytes)
    if len(packed) > HEADER_BYTES_MAX - 16:
        raise HeaderError("a HEADER has at most %d bytes" % HEADER_BYTES_MAX)
    return encode_line(HEADER, packed, 0)


def read_header(data: bytes) -> "Tuple[Header, int]":
    """Return the HEADER at byte 0 and the length of its line.

    Raise IncompleteError when data ends too early, HeaderError when this is no segment of ours.
    A newer format version is not an error: fields this version does not know are left out.
    """
    match = start_pattern().match(data)
    if match is None:
        if len(data) < 14 and data[:1] in (b"", b"\x93"):
            raise IncompleteError("the segment ends within its HEADER")
        raise HeaderError("not a record stream: it does not start with a HEADER line")
    kind, crc, size = parse_start(data, 0)
    end = match.end() + size
    if kind != HEADER or end > HEADER_BYTES_MAX or end != line_bytes(kind, size):
        raise HeaderError("not a record stream: its first line is not a HEADER")
    if len(data) < end:
        raise IncompleteError("the segment ends within its HEADER")
    body = data[match.end() : end]
    if zlib.crc32(body) != crc:
        raise HeaderError("the HEADER is damaged: its checksum differs")
    return _parse_header(body), end


def _parse_header(body: bytes) -> Header:
    try:
        fields = msgpack.unpackb(body, raw=False, unicode_errors="replace")
    except (ValueError, TypeError, OverflowError, RecursionError, msgpack.UnpackException) as error:
        raise HeaderError("the HEADER is not msgpack: %s" % error) from error
    if not isinstance(fields, dict):
        raise HeaderError("the HEADER is not a map")
    for name, kind in _REQUIRED.items():
        if type(fields.get(name)) is not kind:
            raise HeaderError("the HEADER has no valid field %r" % name)
        if kind is int and not 0 <= fields[name] <= INT_MAX:
            raise HeaderError("the HEADER's field %r is out of range" % name)
    if len(fields["stream"]) != 16 or fields["segment"] > SEGMENT_NUMBER_MAX:
        raise HeaderError("the HEADER's stream id or segment number is out of range")
    optional: Dict[str, Any] = {
        "run": fields.get("run"),
        "host": fields.get("host", ""),
        "rank": fields.get("rank"),
        "offline": fields.get("offline", False),
        "stop": fields.get("stop"),
        "server": fields.get("server"),
        "account": fields.get("account"),
        "gpus": _gpus(fields.get("gpus")),
        "parent": _parent(fields.get("parent"), fields["stream"]),
        "role": _role(fields.get("role")),
    }
    if not (
        (optional["run"] is None or (type(optional["run"]) is str and valid_run_id(optional["run"])))
        and type(optional["host"]) is str
        and (optional["rank"] is None or (type(optional["rank"]) is int and 0 <= optional["rank"] <= INT_MAX))
        and type(optional["offline"]) is bool
        and (optional["stop"] is None or type(optional["stop"]) is bool)
    ):
        raise HeaderError("the HEADER's run, host, rank, offline or stop field is not valid")
    server, account = optional["server"], optional["account"]
    if not (
        (server is None or (type(server) is str and 0 < len(server) <= SERVER_CHARACTERS_MAX))
        and (account is None or valid_account(account))
    ):
        raise HeaderError("the HEADER's server or account field is not valid")
    return Header(**dict(optional, **{name: fields[name] for name in _REQUIRED}))


def _gpus(given: "Any") -> "Optional[Dict[str, str]]":
    """Return the map of variables as it is, None for what is none: no stream is refused for it."""
    known = type(given) is dict and 0 < len(given) <= GPU_VARIABLES_MAX
    if not known or any(
        type(text) is not str or len(text) > GPU_CHARACTERS_MAX for pair in given.items() for text in pair
    ):
        return None
    return dict(given)


def _parent(given: "Any", stream: bytes) -> "Optional[bytes]":
    """Return the id of another stream, None for what is none: no stream is refused for it."""
    return given if type(given) is bytes and len(given) == 16 and given != stream else None


def _role(given: "Any") -> "Optional[str]":
    return given if type(given) is str and 0 < len(given) <= ROLE_CHARACTERS_MAX else None


def valid_run_id(run: str) -> bool:
    """Return whether a run id is 1 to 64 of A-Z a-z 0-9 . _ - and does not start with a dot."""
    return 0 < len(run) <= 64 and run[0] != "." and not set(run) - _RUN_ID


def valid_account(account: "Any") -> bool:
    """Return whether this names an account: 1 to 64 of A-Z a-z 0-9 _ -."""
    return type(account) is str and 0 < len(account) <= 64 and not set(account) - _ACCOUNT


_RUN_ID = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-")
_ACCOUNT = _RUN_ID - {"."}
