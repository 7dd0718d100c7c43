"""A fresh store for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.stores import open_in
from tracker_server.store.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """Return an empty SQLite store."""
    opened = open_in(tmp_path)
    yield opened
    opened.close()
