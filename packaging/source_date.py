"""The one time that everything built here carries, so that the same checkout gives the same bytes."""

import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def source_date_epoch() -> int:
    """Return $SOURCE_DATE_EPOCH, else the time of the last commit, else that of the changelog (no git)."""
    given = os.environ.get("SOURCE_DATE_EPOCH")
    if given:
        return int(given)
    asked = subprocess.run(
        ["git", "-c", "safe.directory=*", "-C", ROOT, "log", "-1", "--format=%ct"],
        capture_output=True,
        text=True,
        check=False,
    )
    if asked.returncode == 0 and asked.stdout.strip():
        return int(asked.stdout)
    return int((ROOT / "CHANGELOG.md").stat().st_mtime)
