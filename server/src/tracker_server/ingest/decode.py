"""From the body of an ingest request to entries for commit().

Bounded on every side: the decompressed size before it is reached, the number of entries before they
are made, and types while they are read.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
import zstandard
from msgspec import Meta, Struct

from .commit import AgentInfo, Entry, GapEntry, Lines
from .position import TooLargeError

ENTRIES_MAX = 20_000
#: zstd may ask for this much memory to look back into; level 19 needs 8 MiB.
WINDOW_BYTES_MAX = 64 * 1024 * 1024

_Offset = Annotated[int, Meta(ge=0, le=2**63 - 1)]
_Name = Annotated[str, Meta(max_length=256)]


class UndecodableError(Exception):
    """The body is not what an agent sends; the message says where."""


class _Who(Struct):
    uid: Annotated[int, Meta(ge=0, le=2**32 - 1)]
    user: _Name = ""


class _Gap(Struct):
    gap: Annotated[int, Meta(ge=1, le=2**63 - 1)]
    reason: Annotated[str, Meta(max_length=1000)] = ""


class _Entry(Struct, array_like=True):
    stream: Annotated[bytes, Meta(min_length=16, max_length=16)]
    offset: _Offset
    content: bytes | _Gap
    who: _Who


class _Request(Struct):
    entries: Annotated[list[_Entry], Meta(max_length=ENTRIES_MAX)]
    agent: _Name = ""
    machine: Annotated[str, Meta(max_length=128)] = ""
    host: _Name = ""
    time: int = 0


_DECODER = msgspec.msgpack.Decoder(_Request)


def decompress(body: bytes, bytes_max: int) -> bytes:
    """Return a zstd frame's content. Raise TooLargeError before more than bytes_max were made."""
    decompressor = zstandard.ZstdDecompressor(max_window_size=WINDOW_BYTES_MAX)
    try:
        size = frame_bytes(body)
        if size is not None:
            if size > bytes_max:
                raise TooLargeError(f"it has more than {bytes_max} bytes once decompressed")
            # Into a buffer of that size: a frame that holds more than it says is refused, too.
            return decompressor.decompress(body, allow_extra_data=False)
        if _measure(decompressor, body, bytes_max) > bytes_max:
            raise TooLargeError(f"it has more than {bytes_max} bytes once decompressed")
        frame = decompressor.decompressobj(read_across_frames=False)
        content = frame.decompress(body)
        if not frame.eof or frame.unused_data:
            raise UndecodableError("the body is not one whole zstd frame")
        return content
    except (zstandard.ZstdError, MemoryError) as error:
        raise UndecodableError(f"the body is not one whole zstd frame: {error}") from error


def _measure(decompressor: zstandard.ZstdDecompressor, body: bytes, bytes_max: int) -> int:
    """Return how long a frame's content is, or some number above bytes_max."""
    reader = decompressor.stream_reader(body, read_across_frames=False)
    total = 0
    while total <= bytes_max and (part := reader.read(1 << 20)):
        total += len(part)
    return total


def frame_bytes(body: bytes) -> int | None:
    """Return how long a zstd frame says its content is, or None when it does not say."""
    try:
        size = zstandard.get_frame_parameters(body).content_size
    except zstandard.ZstdError:
        return None
    if size in (zstandard.CONTENTSIZE_UNKNOWN, zstandard.CONTENTSIZE_ERROR):
        return None
    return size


def decode_request(body: bytes) -> tuple[AgentInfo, list[Entry]]:
    """Return who sent a request, and its entries in order. Raise UndecodableError."""
    try:
        request = _DECODER.decode(body)
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError, RecursionError) as error:
        raise UndecodableError(f"the body is not an ingest request: {error}") from error
    info = AgentInfo(version=request.agent, machine=request.machine, host=request.host)
    return info, [_entry(each) for each in request.entries]


def _entry(entry: _Entry) -> Entry:
    who = entry.who
    if isinstance(entry.content, bytes):
        return Lines(who.uid, who.user, entry.stream, entry.offset, entry.content)
    gap = entry.content
    return GapEntry(who.uid, who.user, entry.stream, entry.offset, gap.gap, gap.reason)
