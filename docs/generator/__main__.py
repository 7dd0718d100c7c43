"""Writes what is made from the code anew, docs/reference, packaging/man and packaging/completion:
`python -m docs.generator`.
"""

from __future__ import annotations

from . import completion, manual
from .pages import PACKAGING, REFERENCE, pages

for directory, files in (
    (REFERENCE, pages()),
    (PACKAGING / "man", manual.pages()),
    (PACKAGING / "completion", completion.files()),
):
    directory.mkdir(exist_ok=True)
    for name, text in files.items():
        (directory / name).write_text(text)
