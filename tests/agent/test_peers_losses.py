"""The table of how others lose data names, for each way, tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TABLE = ROOT / "docs" / "how-others-lose-data.md"


def rows() -> list[str]:
    lines = TABLE.read_text().splitlines()
    return [line for line in lines if line.startswith("| ") and not line.startswith("| how it happens")]


@pytest.fixture(scope="module")
def there() -> set[str]:
    sources = (path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    return {name for source in sources for name in re.findall(r"def (test_\w+)\(", source)}


@pytest.mark.parametrize("row", rows(), ids=lambda row: row.split("|")[1].strip()[:60])
def test_every_way_to_lose_data_has_tests_that_exist(row: str, there: set[str]) -> None:
    named = set(re.findall(r"`(test_\w+)`", row))

    assert named
    assert named <= there
