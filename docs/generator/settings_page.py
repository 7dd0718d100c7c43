"""How one setting is shown on a page: its name as a heading, what it is for, and its facts as a list."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

KIB = 1024
_UNITS = ((KIB**4, "TiB"), (KIB**3, "GiB"), (KIB**2, "MiB"), (KIB, "KiB"))


class Shown(NamedTuple):
    """One setting. facts: (what, value) in Markdown, in the order they are shown."""

    name: str
    text: str
    facts: list[tuple[str, str]]


def entry(shown: Shown) -> Iterator[str]:
    """Yield the lines of one setting; `page.md#section.name` leads there."""
    yield f"### `{shown.name}` {{ #{shown.name} }}\n\n"
    yield f"{_escaped(shown.text)}\n\n"
    for what, value in shown.facts:
        yield f"- {what}: {value}\n"
    yield "\n"


def value(given: object, name: str = "") -> str:
    """Return how a default stands in a TOML file; sizes with their unit, too."""
    if isinstance(given, bool):
        return f"`{str(given).lower()}`"
    if isinstance(given, str):
        return f'`"{given}"`' if given else "none"
    if isinstance(given, tuple):
        return "`[" + ", ".join(f'"{each}"' for each in given) + "]`"
    if isinstance(given, float):
        return f"`{given:g}`" + _seconds(given, name)
    if isinstance(given, int) and "bytes" in name:
        return f"`{given}`" + _size(given)
    return f"`{given}`"


def bounds(low: float, high: float, name: str) -> str:
    """Return the range of a setting; a huge upper bound is none."""
    shown_low = _bare(low, name)
    return f"{shown_low} or more" if high >= 2**60 else f"{shown_low} to {_bare(high, name)}"


def _bare(number: float, name: str) -> str:
    if "bytes" in name:
        return _size(int(number)).strip(" ()") or str(int(number))
    return f"{int(number):,}" if float(number).is_integer() else f"{number:g}"


def _size(number: int) -> str:
    for unit, name in _UNITS:
        if number and number % unit == 0:
            return f" ({number // unit} {name})"
    return ""


def _seconds(number: float, name: str) -> str:
    if not name.endswith("_s") or number < 3600 or number % 3600:
        return " seconds" if name.endswith("_s") else ""
    hours = int(number // 3600)
    return f" seconds ({hours // 24} days)" if hours % 24 == 0 else f" seconds ({hours} h)"


def _escaped(text: str) -> str:
    """Keep what looks like HTML, or a variable of a shell, as it is."""
    return text.replace("<", "&lt;")
