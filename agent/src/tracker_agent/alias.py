"""Ships a stream under another id: what `replay --as-new` does with one that the server has otherwise.

Positions stay what they are, see tracker.protocol.renaming. Runs in the spool's thread.
"""

from __future__ import annotations

from tracker.protocol.codec import line_bytes, parse_start
from tracker.protocol.renaming import rename_lines

from .pieces import Data, Diverged, Piece, Reading
from .streams import Stream


def read_as(stream: Stream, reading: Reading) -> Reading:
    """Give what was read of a stream the checksums of its alias."""
    if stream.alias is not None:
        reading.pieces = [_rename(stream, stream.alias, piece) for piece in reading.pieces]
    return reading


def check_as(stream: Stream, position: int, last: int, crc: int) -> None:
    """Raise Diverged unless the line from last to position has that checksum under the stream's alias."""
    reading = read_as(stream, stream.entry.tail.read(last, 1, stream.live))
    piece = reading.pieces[0] if reading.pieces else None
    if not isinstance(piece, Data):
        return  # the file that held it is gone: there is nothing to compare
    kind, found, size = parse_start(piece.data, 0)
    if found != crc or line_bytes(kind, size) != position - last:
        raise Diverged(f"the record at {last} differs from the one that the server has")


def _rename(stream: Stream, alias: bytes, piece: Piece) -> Piece:
    segment = stream.entry.tail.segments.at(piece.offset)
    if not isinstance(piece, Data) or segment is None:
        return piece
    return Data(piece.offset, rename_lines(piece.data, stream.entry.stream, segment.number, alias))
