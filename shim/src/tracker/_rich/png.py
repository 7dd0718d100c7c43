"""PNG from NumPy arrays, with zlib alone: neither PIL nor a whole second copy of the picture is needed.

Format: https://www.w3.org/TR/png-3/
"""

import struct
import zlib
from typing import Any, Iterator

from .libraries import needed

#: Favours speed: log() waits for it. Filtered rows compress well even so.
LEVEL = 3
#: Rows are filtered and compressed in bands of about so many bytes.
BAND_BYTES = 1024 * 1024
_COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}  # grey, grey and alpha, RGB, RGBA
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_NO_FILTER, _UP = 0, 2


def png_blocks(pixels: Any) -> Iterator[bytes]:
    """Yield a PNG of uint8 or uint16 pixels, height x width or height x width x 1 to 4 channels."""
    numpy = needed("numpy", "a picture of an array")
    height, width = pixels.shape[:2]
    channels = pixels.shape[2] if pixels.ndim == 3 else 1
    depth = 8 * pixels.dtype.itemsize
    head = struct.pack(">IIBBBBB", width, height, depth, _COLOUR_TYPES[channels], 0, 0, 0)
    yield _SIGNATURE + _chunk(b"IHDR", head)
    row_bytes = width * channels * pixels.dtype.itemsize
    band_rows = max(1, BAND_BYTES // row_bytes)
    compressor = zlib.compressobj(LEVEL)
    above = numpy.zeros(row_bytes, numpy.uint8)
    for start in range(0, height, band_rows):
        band = pixels[start : start + band_rows]
        if depth == 16:
            band = band.astype(">u2")
        rows = numpy.ascontiguousarray(band).view(numpy.uint8).reshape(len(band), row_bytes)
        compressed = compressor.compress(_filtered(numpy, rows, above))
        above = rows[-1]
        if compressed:
            yield _chunk(b"IDAT", compressed)
    yield _chunk(b"IDAT", compressor.flush()) + _chunk(b"IEND", b"")


def _filtered(numpy: Any, rows: Any, above: Any) -> bytes:
    """Return rows with the byte in front that says what was done: nothing, or the row above taken off.

    Of the two, the one with the smaller bytes (as signed ones): they compress better.
    """
    before = numpy.concatenate([above[None], rows[:-1]])
    difference = rows - before
    is_less = numpy.abs(difference.view(numpy.int8).astype(numpy.int16)).sum(1) < numpy.abs(
        rows.view(numpy.int8).astype(numpy.int16)
    ).sum(1)
    out = numpy.empty((rows.shape[0], rows.shape[1] + 1), numpy.uint8)
    out[:, 0] = numpy.where(is_less, _UP, _NO_FILTER)
    out[:, 1:] = numpy.where(is_less[:, None], difference, rows)
    return out.tobytes()  # type: ignore[no-any-return]


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
