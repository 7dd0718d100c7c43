"""A machine made of files: one of tests/fixtures/hosts, copied to where a test may change it.

Its /proc and /sys are read through tracker_agent's Kernel, its clock stands until the test moves it.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from tests.fixtures.hosts.devices import write_devices
from tests.fixtures.hosts.generate import write_processors
from tracker_agent.collectors.collector import Context
from tracker_agent.collectors.kernel import Kernel

HOSTS = Path(__file__).resolve().parent.parent / "fixtures" / "hosts"
#: What each of them is: tests/fixtures/hosts/README.md.
MACHINES = ("intel-2s", "amd-128c", "slurm-v1", "hybrid", "container", "empty")


class FixtureHost:
    """A copy of a machine, below a directory that does not exist yet."""

    def __init__(self, machine: str, root: Path) -> None:
        self.machine = machine
        self.root = root
        shutil.copytree(HOSTS / machine, root, symlinks=True)
        write_processors(machine, root)
        write_devices(machine, root)
        self.kernel = Kernel(str(root))
        self.now = 1000.0

    def context(self, **more: Any) -> Context:
        """Return what collectors get; `more` are further fields of Context, such as settings."""
        given: dict[str, Any] = {
            "kernel": self.kernel,
            "monotonic": lambda: self.now,
            "wall_ns": lambda: int(self.now * 1e9),
        }
        return Context(**(given | more))

    def advance(self, seconds: float) -> None:
        """Move the clock."""
        self.now += seconds

    def read(self, name: str) -> str:
        return (self.root / name).read_text()

    def write(self, name: str, text: str) -> None:
        """Write a file such as "proc/loadavg", with its directories."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def replace(self, name: str, old: str, new: str) -> None:
        """Change a part of a file, which must be there."""
        text = self.read(name)
        assert old in text, f"{name} has no {old!r}"
        self.write(name, text.replace(old, new, 1))

    def add(self, name: str, growth: int) -> None:
        """Let the number in a file of one line grow."""
        self.write(name, f"{int(self.read(name)) + growth}\n")

    def grow(self, name: str, row: str, column: int, growth: int) -> None:
        """Let one number of a table grow: in the row that begins with a word, which is column 0."""
        lines = self.read(name).split("\n")
        for index, line in enumerate(lines):
            words = line.split()
            if words and words[0].rstrip(":") == row.rstrip(":"):
                words[column] = str(int(words[column]) + growth)
                lines[index] = " ".join(words)
                self.write(name, "\n".join(lines))
                return
        raise AssertionError(f"{name} has no row {row!r}")

    def remove(self, name: str) -> None:
        """Remove a file or a directory."""
        path = self.root / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
