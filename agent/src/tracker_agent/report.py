"""The human form of the status: what is shipped, what is behind, what is wrong and what to do."""

from __future__ import annotations

from typing import Any


def render(status: dict[str, Any]) -> str:
    """Return text for a terminal."""
    return repr(status)
