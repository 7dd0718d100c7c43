"""Writes the pages of docs/reference anew: `python -m docs.generator`."""

from __future__ import annotations

from .pages import REFERENCE, pages

for name, text in pages().items():
    (REFERENCE / name).write_text(text)
