"""What the first bytes of a picture file say: its format and its size."""

import struct
from typing import NamedTuple, Optional, Tuple

#: Enough for the headers of all formats but JPEGs that begin with a large profile or thumbnail.
START_BYTES = 256 * 1024
Size = Optional[Tuple[int, int]]


class PictureFile(NamedTuple):
    """Format as an extension, "" where unknown; (width, height) where the header tells."""

    format: str
    size: Size


def look_at(start: bytes) -> PictureFile:
    """Return what the start of a file says. Never raises, whatever the bytes."""
    for magic, name, read_size in _FORMATS:
        if start.startswith(magic):
            try:
                return PictureFile(name, read_size(start))
            except (struct.error, IndexError):
                return PictureFile(name, None)
    if start[:4] == b"RIFF" and start[8:12] == b"WEBP":
        return PictureFile("webp", _webp(start))
    return PictureFile("", None)


def _png(start: bytes) -> Size:
    width, height = struct.unpack_from(">II", start, 16)
    return width, height


def _gif(start: bytes) -> Size:
    width, height = struct.unpack_from("<HH", start, 6)
    return width, height


def _bmp(start: bytes) -> Size:
    width, height = struct.unpack_from("<ii", start, 18)
    return abs(width), abs(height)  # stored top down, the height is negative


def _jpeg(start: bytes) -> Size:
    at = 2
    while True:
        while start[at] != 0xFF or start[at + 1] == 0xFF:
            at += 1
        marker = start[at + 1]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):  # a frame, of whichever coding
            height, width = struct.unpack_from(">HH", start, at + 5)
            return width, height
        at += 2
        if not 0xD0 <= marker <= 0xD8 and marker != 1:
            at += struct.unpack_from(">H", start, at)[0]


def _webp(start: bytes) -> Size:
    kind = start[12:16]
    try:
        if kind == b"VP8X":
            width, height = (int.from_bytes(start[at : at + 3], "little") + 1 for at in (24, 27))
            return (width, height) if len(start) >= 30 else None
        if kind == b"VP8L":
            bits = struct.unpack_from("<I", start, 21)[0]
            return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        if kind == b"VP8 ":
            width, height = struct.unpack_from("<HH", start, 26)
            return width & 0x3FFF, height & 0x3FFF
    except struct.error:
        pass
    return None


def _unknown(start: bytes) -> Size:  # noqa: ARG001 - one of those above
    return None


_FORMATS = (
    (b"\x89PNG\r\n\x1a\n", "png", _png),
    (b"\xff\xd8\xff", "jpg", _jpeg),
    (b"GIF87a", "gif", _gif),
    (b"GIF89a", "gif", _gif),
    (b"BM", "bmp", _bmp),
    (b"II*\x00", "tiff", _unknown),
    (b"MM\x00*", "tiff", _unknown),
)
