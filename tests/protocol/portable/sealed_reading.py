"""Reads a sealed segment with the pure functions alone, as any reader does with its own files."""

from tracker.protocol.codec import Seeds, line_bytes, start_pattern
from tracker.protocol.errors import HeaderError
from tracker.protocol.header import read_header
from tracker.protocol.reader import Gap, Lines, Wait, next_piece


def read_sealed(data, stream, segment=0, chunk=1 << 18):
    """Return ([(offset, kind, body)], [(offset, bytes, reason)]) of a whole sealed segment."""
    seeds = Seeds(stream, segment)
    records, gaps = [], []
    position = 0
    try:
        header, size = read_header(data)
        if (header.stream, header.segment) == (stream, segment):
            records.append((0, 0, data[start_pattern().match(data).end() : size]))
            position = size
    except HeaderError:
        pass
    wants = chunk
    while True:
        window = data[position : position + wants]
        more = position + wants < len(data)
        piece = next_piece(window, seeds, more, live=False)
        if isinstance(piece, Wait):
            if piece.wants == 0:
                return records, gaps
            assert more and piece.wants > len(window), "stuck at %d: %r" % (position, piece)
            wants = piece.wants
            continue
        assert 0 < piece.size <= len(window)
        if isinstance(piece, Gap):
            gaps.append((position, piece.size, piece.reason))
        else:
            assert isinstance(piece, Lines)
            at = position
            for kind, _, body in piece.lines:
                last = at
                records.append((at, kind, body))
                at += line_bytes(kind, len(body))
            assert at == position + piece.size and last == position + piece.last
        position += piece.size
        wants = chunk
