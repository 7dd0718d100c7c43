"""Cells of tables as plain data, a column of a few thousand rows at a time."""

import datetime
from typing import Any, List, Set

from .._values import fit, to_number_or_text, to_plain
from .foreign import as_rich
from .media import Media

#: What a column may be said to hold, by the type of its cells; others are looked at one by one.
_PLAIN = {int: "number", float: "number", bool: "bool", str: "text"}
_NONE = type(None)
#: pandas' ways to say that there is nothing.
_MISSING = frozenset(["NAType", "NaTType"])
_TIMES = {"M": "datetime64[us]", "m": "timedelta64[us]"}


def to_cells(column: Any, media: Media, kinds: Set[str]) -> List[Any]:
    """Return part of a column as what msgpack can hold; add to `kinds` what kinds of cells there are."""
    cells = to_list(column) if hasattr(column, "dtype") else column
    types = set(map(type, cells))
    types.discard(_NONE)
    if types.issubset(_PLAIN):
        kinds.update([_PLAIN[each] for each in types])
        if int in types:
            cells = [fit(cell) if type(cell) is int else cell for cell in cells]
        return list(cells)
    return [_to_cell(cell, media, kinds) for cell in cells]


def to_list(column: Any) -> List[Any]:
    """Return the cells of a list or array as Python objects."""
    if not hasattr(column, "dtype"):
        return list(column)
    if column.dtype.kind in _TIMES:  # nanoseconds would come as bare integers
        column = column.astype(_TIMES[column.dtype.kind])
    cells = column.tolist()
    return cells if isinstance(cells, list) else list(column)


def _to_cell(cell: Any, media: Media, kinds: Set[str]) -> Any:
    kind = type(cell)
    if cell is None or kind.__name__ in _MISSING:
        return None
    if kind in _PLAIN:
        kinds.add(_PLAIN[kind])
        return fit(cell) if kind is int else cell
    if kind.__module__ == "numpy" and kind.__name__ in ("datetime64", "timedelta64"):
        cell = cell.astype(kind.__name__ + "[us]").item()
        if cell is None:  # NaT
            return None
    if isinstance(cell, (datetime.date, datetime.time)):  # datetime is a date
        kinds.add("time")
        return cell.isoformat()
    if isinstance(cell, (bytes, bytearray)):
        kinds.add("bytes")
        return bytes(cell)
    rich = as_rich(cell, arrays=False)
    if rich is not None:
        encoded = rich.to_record(media)
        kinds.add(encoded.type)
        return encoded.in_a_map()
    return _to_other_cell(cell, kinds)


def _to_other_cell(cell: Any, kinds: Set[str]) -> Any:
    try:
        plain = to_number_or_text(cell)
    except Exception:  # noqa: BLE001 - no number then; .item() is foreign code
        plain = to_plain(cell)
    for kind, name in ((bool, "bool"), ((int, float), "number"), (str, "text"), (dict, "map")):
        if isinstance(plain, kind):
            kinds.add(name)
            return plain
    if plain is not None:
        kinds.add("list")
    return plain
