"""The same lines under another stream id.

Checksums depend on the stream id, so lines cannot just be copied into another stream. Ids have one length and
checksums another, so that each line keeps its length and every offset its meaning.
"""

from hashlib import sha256
from typing import List

from .codec import Seeds, encode_line, scan_lines, start_pattern
from .errors import HeaderError
from .header import read_header
from .kinds import HEADER

_STREAM_FIELD = b"\xa6stream\xc4\x10"


def renamed_id(stream: bytes, machine: str, times: int = 1) -> bytes:
    """Return the id that a stream of a machine gets when it is shipped as new for so many times.

    Always the same one, so that doing it again, or after a crash, ships nothing twice.
    """
    text = b"tracker: shipped as new\0%s\0%d\0%s" % (stream, times, machine.encode("utf-8", "surrogatepass"))
    return sha256(text).digest()[:16]


def rename_lines(data: bytes, stream: bytes, segment: int, new_stream: bytes) -> bytes:
    """Return whole lines of one segment as lines of another stream, each as long as it was.

    Raise HeaderError when they begin with a HEADER that cannot be rewritten, ValueError when they are no
    whole lines of that segment.
    """
    renamed: List[bytes] = []
    start = 0
    if data[1:2] == bytes([HEADER]):
        _, start = read_header(data)
        renamed.append(rename_header(data[:start], stream, new_stream))
    scanned = scan_lines(data[start:], Seeds(stream, segment))
    if start + scanned.end != len(data):
        raise ValueError("these are no whole lines of stream %s, segment %d" % (stream.hex(), segment))
    seeds = Seeds(new_stream, segment)
    renamed += [encode_line(kind, body, seeds[kind]) for kind, _, body in scanned.lines]
    return b"".join(renamed)


def rename_header(line: bytes, stream: bytes, new_stream: bytes) -> bytes:
    """Return a HEADER line with another stream id; whatever else it says stays as it is, byte for byte."""
    match = start_pattern().match(line)
    assert match is not None, "read_header() took it"
    body = line[match.end() :]
    before, field, after = body.partition(_STREAM_FIELD + stream)
    if not field:
        raise HeaderError("the HEADER writes its stream id in a way that cannot be rewritten")
    return encode_line(HEADER, before + _STREAM_FIELD + new_stream + after, 0)
