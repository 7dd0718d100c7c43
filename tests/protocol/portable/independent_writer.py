"""A second writer of record streams, made from docs/record-format.md with struct and zlib alone.

It shares no code with tracker.protocol and needs no msgpack library: where both give the same
bytes, the prose says what the code does. Also a template for writers in other languages.
"""

import struct
import zlib


def pack(value):
    """Return value as msgpack, each in its shortest form; floats as float64."""
    if value is None:
        return b"\xc0"
    if value is False or value is True:
        return b"\xc3" if value else b"\xc2"
    if isinstance(value, float):
        return struct.pack(">Bd", 0xCB, value)
    if isinstance(value, int):
        return pack_int(value)
    if isinstance(value, bytes):
        return pack_size(len(value), (0xC4, 0xC5, 0xC6)) + value
    if isinstance(value, str):
        data = value.encode("utf-8")
        head = bytes([0xA0 | len(data)]) if len(data) < 32 else pack_size(len(data), (0xD9, 0xDA, 0xDB))
        return head + data
    if isinstance(value, (list, tuple)):
        head = bytes([0x90 | len(value)]) if len(value) < 16 else pack_size(len(value), (None, 0xDC, 0xDD))
        return head + b"".join(map(pack, value))
    assert isinstance(value, dict)
    head = bytes([0x80 | len(value)]) if len(value) < 16 else pack_size(len(value), (None, 0xDE, 0xDF))
    return head + b"".join(pack(key) + pack(item) for key, item in value.items())


def pack_int(value):
    """Return an integer in its shortest msgpack form."""
    if -32 <= value < 128:
        return struct.pack(">b", value)
    for tag, form, low, high in (
        (0xCC, "B", 0, 0xFF),
        (0xCD, "H", 0, 0xFFFF),
        (0xCE, "I", 0, 0xFFFFFFFF),
        (0xCF, "Q", 0, 2**64 - 1),
        (0xD0, "b", -(2**7), -1),
        (0xD1, "h", -(2**15), -1),
        (0xD2, "i", -(2**31), -1),
        (0xD3, "q", -(2**63), -1),
    ):
        if low <= value <= high:
            return struct.pack(">B" + form, tag, value)
    raise ValueError(value)


def pack_size(size, tags):
    """Return the shortest of the 8, 16 and 32 bit length fields that exist (tag not None)."""
    for tag, form, limit in zip(tags, "BHI", (0x100, 0x10000, 0x100000000)):
        if tag is not None and size < limit:
            return struct.pack(">B" + form, tag, size)
    raise ValueError(size)


def line(stream, segment, kind, body):
    """Return one line. HEADER (kind 0) has seed 0."""
    seed = zlib.crc32(stream + struct.pack(">IH", segment, kind)) if kind else 0
    return b"\x93" + pack(kind) + struct.pack(">BI", 0xCE, zlib.crc32(body, seed)) + pack(body)


def segment(stream, number, base, header, records):
    """Return the bytes of a segment: header is the map without stream, segment and base."""
    fields = dict(header, stream=stream, segment=number, base=base)
    order = (
        "stream",
        "run",
        "segment",
        "base",
        "machine",
        "boot",
        "pid",
        "started",
        "clock",
        "writer",
        "host",
    )
    names = order + ("rank", "offline", "version")
    body = pack({name: fields[name] for name in names if name in fields})
    lines = [line(stream, number, kind, pack(fields)) for kind, fields in records]
    return line(stream, number, 0, body) + b"".join(lines)
