"""The file of a table, and what a record says of one: columns of msgpack, a few thousand rows at a time.

    {"format": "tracker table", "version": 1, "columns": [name, …]}
    [[cell, …], …]                      a chunk: for each column, the cells of the same rows
    …
    {"rows": n, "types": [type, …]}     what was found out on the way

(docs/record-format.md.) No more than a chunk of it is in memory at a time.
"""

from typing import Any, Dict, Iterator, List, NamedTuple, Sequence, Set

import msgpack

from .._values import UnsupportedError
from .cells import to_cells
from .media import INLINE_BYTES_MAX, Media

VERSION = 1
CHUNK_ROWS = 4096
#: A chunk of larger cells has fewer rows.
CHUNK_BYTES = 4 * 1024 * 1024
COLUMNS_MAX = 4096
#: A cell is written in this or a few bytes more, unless it is text or bytes.
_SMALL_CELL_BYTES = 9


class Chunk(NamedTuple):
    """Some rows: the cells column by column, and their bytes in the file."""

    rows: int
    columns: List[List[Any]]
    packed: bytes


def encode_table(names: Sequence[str], columns: Sequence[Any], start: int, media: Media) -> Dict[str, Any]:
    """Return what a record says of a table's rows from `start` on; larger ones are in a file of their own.

    columns: lists or NumPy arrays, of equal lengths.
    """
    if len(names) > COLUMNS_MAX:
        raise UnsupportedError("a table has at most %d columns, not %d" % (COLUMNS_MAX, len(names)))
    rows = (len(columns[0]) if len(columns) else 0) - start
    kinds: List[Set[str]] = [set() for _ in names]
    chunks = _chunks(columns, kinds, start, media)
    first = next(chunks, Chunk(0, [[] for _ in names], b""))
    head = {"format": "tracker table", "version": VERSION, "columns": list(names)}
    data: Dict[str, Any]
    if first.rows == rows and len(first.packed) + len(_pack(head)) <= INLINE_BYTES_MAX:
        data = {"data": first.columns}
    else:
        data = media.write("tables", "msgpack", _blocks(head, first, chunks, kinds))
    data.update(columns=list(names), types=_types(kinds), rows=rows)
    return data


def _blocks(
    head: Dict[str, Any], first: Chunk, others: Iterator[Chunk], kinds: List[Set[str]]
) -> Iterator[bytes]:
    yield _pack(head)
    yield first.packed
    rows = first.rows
    for chunk in others:
        yield chunk.packed
        rows += chunk.rows
    yield _pack({"rows": rows, "types": _types(kinds)})


def _chunks(columns: Sequence[Any], kinds: List[Set[str]], start: int, media: Media) -> Iterator[Chunk]:
    rows = len(columns[0]) if len(columns) else 0
    for at in range(start, rows, CHUNK_ROWS):
        cells = [
            to_cells(column[at : min(at + CHUNK_ROWS, rows)], media, kind)
            for column, kind in zip(columns, kinds)
        ]
        for chunk in _cut(cells):
            yield chunk


def _cut(cells: List[List[Any]]) -> Iterator[Chunk]:
    rows = len(cells[0])
    if rows > 1 and sum(map(_bytes_of, cells)) > CHUNK_BYTES:
        middle = rows // 2
        for part in ([column[:middle] for column in cells], [column[middle:] for column in cells]):
            for chunk in _cut(part):
                yield chunk
    else:
        yield Chunk(rows, cells, _pack(cells))


def _bytes_of(cells: List[Any]) -> int:
    """Return about how many bytes cells take when packed; what is in lists and maps is not looked into."""
    long = [len(cell) for cell in cells if isinstance(cell, (str, bytes, list, dict))]
    return sum(long) + _SMALL_CELL_BYTES * len(cells)


def _pack(value: Any) -> bytes:
    packed = msgpack.packb(value, use_bin_type=True, unicode_errors="surrogatepass")
    assert isinstance(packed, bytes)
    return packed


def _types(kinds: List[Set[str]]) -> List[str]:
    return ["any" if len(kind) > 1 else "".join(kind) or "none" for kind in kinds]
