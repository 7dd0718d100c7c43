"""A configuration that is well but for one thing, and what check-config says of it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SECRET = "s" * 43
KEY = f"tk_abcdefgh_{SECRET}"
#: Lines 1 to 6; ROOT is the test's directory.
WELL = (
    "[agent]",
    'state_dir = "ROOT/state"',
    'spools = ["ROOT/spool"]',
    "[server]",
    'url = "https://127.0.0.1:1"',
    f'key = "{KEY}"',
)
#: Variables that the settings go by are not the test machine's.
_VARIABLES = (
    "TRACKER_",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "SSL_CERT_FILE",
    "REQUESTS_CA_BUNDLE",
)


@dataclass(frozen=True)
class Row:
    """One misconfiguration: what is done, and what has to be said about it."""

    name: str
    lines: Mapping[int, str | None]  #: lines of the file that are others, or gone
    where: int | str | None  #: its line, or what the source is called instead
    cause: str
    remedy: str
    level: str = "error"
    prepare: Callable[[Path], Any] = lambda root: None
    environment: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.name


def write_config(root: Path, lines: Mapping[int, str | None], well: tuple[str, ...] = WELL) -> Path:
    """Write the file, with some lines changed; return its path."""
    text: dict[int, str | None] = {**dict(enumerate(well, 1)), **lines}
    file = root / "agent.toml"
    kept = [text.get(number, "") or "" for number in range(1, max(text) + 1)]
    file.write_text("\n".join(kept).replace("ROOT", str(root)) + "\n")
    file.chmod(0o600)
    return file


def bare_environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return this process's environment without what settings go by."""
    kept = {name: text for name, text in os.environ.items() if not name.upper().startswith(_VARIABLES)}
    return {**kept, **(more or {})}


def check_row(row: Row, root: Path, file: Path, document: dict[str, Any], status: int) -> None:
    """Compare what check-config --json said with the row: this problem and no other."""
    told = [each for each in document["problems"] if each["level"] != "note" or row.level == "note"]
    said = json.dumps(told, indent=2)
    assert len(told) == 1, said
    [problem] = told
    assert problem["level"] == row.level, said
    assert row.cause.replace("ROOT", str(root)) in problem["problem"], said
    assert row.remedy.replace("ROOT", str(root)) in problem["remedy"], said
    if isinstance(row.where, int):
        assert (problem["file"], problem["line"]) == (str(file), row.where), said
    elif row.where is not None:
        assert row.where.replace("ROOT", str(root)) in (problem["source"] or ""), said
    assert document["usable"] is (row.level != "error"), said
    assert status == (2 if row.level == "error" else 0)
    assert SECRET not in json.dumps(document)
