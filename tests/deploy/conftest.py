"""What the tests of deploy/ share: its tools, found beside the Python that runs them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support import require

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"


@pytest.fixture(scope="session", autouse=True)
def tools_on_path() -> None:
    """Put the programs of requirements/deploy.txt first."""
    os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    if "TEST_SERVICES_PYTHON" not in os.environ:
        require.absent(
            "agent and server", "TEST_SERVICES_PYTHON names no Python with them", "make deploy-check"
        )


def run_tool(*command: str | Path, cwd: Path = ROOT, **more: Any) -> subprocess.CompletedProcess[str]:
    """Run a tool; fail with what it says unless it ends with 0."""
    done = subprocess.run(
        [str(each) for each in command],
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        check=False,
        **more,
    )
    assert done.returncode == 0, f"{command[0]} ended with {done.returncode}:\n{done.stdout}"
    return done
