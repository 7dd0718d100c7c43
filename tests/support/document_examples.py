"""The code in the project's documents, as programs that can be run.

Blocks fenced as ```python of one document make one program, in their order; each block fenced as ```sh is one
of its own. A comment in front of a block says what the reader is not bothered with:

    <!-- given: loss, accuracy = 0.5, 0.9 -->      Python that comes before the block
    <!-- not run: it needs a cluster -->           the block is left out
    <!-- step: pip -->                             the block is part of a walk, which a test of its own goes
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import NamedTuple

from tests.shim.scripts import environment
from tests.support.alone import ALONE

ROOT = Path(__file__).resolve().parents[2]
#: Libraries that only `make integrations` has: what imports one runs there, all else in `make test`.
HEAVY = {
    "absl", "accelerate", "bokeh", "keras", "lightgbm", "lightning", "matplotlib", "omegaconf", "pandas",
    "PIL", "plotly", "torch", "transformers", "wandb", "xgboost",
}  # fmt: skip

_BLOCK = re.compile(r"((?:^<!-- .*? -->\n+)*)^```(python|sh)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_COMMENT = re.compile(r"<!-- (given|not run|step): (.*?) -->", re.DOTALL)


class Program(NamedTuple):
    """What a reader would run: name is for people."""

    name: str
    language: str
    text: str

    @property
    def heavy(self) -> bool:
        """Whether it imports a library that `make integrations` has."""
        if self.language != "python":
            return False
        return bool({name.partition(".")[0] for name in _imports(self.text)} & HEAVY)


def programs() -> list[Program]:
    """Return all programs of all documents."""
    documents = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    return [program for document in documents for program in programs_of(document.read_text(), document.name)]


def programs_of(text: str, document: str) -> list[Program]:
    """Return the programs in one document."""
    python: list[str] = []
    shell: list[Program] = []
    for match in _BLOCK.finditer(text):
        comments, language, block = match.groups()
        said = dict(_COMMENT.findall(comments))
        line = text.count("\n", 0, match.start(2)) + 1
        if "not run" in said or "step" in said:
            continue
        if language == "sh":
            shell.append(Program(f"{document}:{line}", "sh", block))
        else:
            python += [textwrap.dedent(said.get("given", "")).strip(), block]
    return ([Program(document, "python", "\n".join(python))] if python else []) + shell


class Step(NamedTuple):
    """One block of a walk. ready: what it says when the next may begin, where it stays in its terminal."""

    text: str
    ready: str | None
    user: str | None


def steps_of(text: str, walk: str) -> list[Step]:
    """Return the blocks of one walk through a document, in their order.

    <!-- step: pip, stays until: sign in --> stays running; <!-- step: packages, as: user --> is not root's.
    """
    steps = []
    for match in _BLOCK.finditer(text):
        comments, _, block = match.groups()
        name, *more = dict(_COMMENT.findall(comments)).get("step", "").split(", ")
        options = dict(option.split(": ", 1) for option in more)
        if name == walk:
            steps.append(Step(block, options.get("stays until"), options.get("as")))
    return steps


def run(program: Program, directory: Path) -> None:
    """Run a program in a directory; fail unless it ends well and the shim has nothing to warn of."""
    commands = directory / "bin"
    commands.mkdir()
    for name, arguments in (("python3", ""), ("tracker", "-m tracker")):
        (commands / name).write_text(f'#!/bin/sh\nexec {sys.executable} {arguments} "$@"\n')
        (commands / name).chmod(0o755)
    work = directory / "work"
    work.mkdir()
    command = [sys.executable, "-c"] if program.language == "python" else ["bash", "-euo", "pipefail", "-c"]
    environ = environment(
        TRACKER_DIR=str(directory / "spool"), HOME=str(directory), XDG_CONFIG_HOME=str(directory / "config")
    )
    environ["PATH"] = f"{commands}:{environ['PATH']}"
    for name in ALONE:  # a reader has the console recorded, and the code
        del environ[name]
    done = subprocess.run(
        [*command, program.text],
        cwd=work,
        env=environ,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    said = f"{program.name}:\n{program.text}\n--- printed:\n{done.stdout}\n{done.stderr}"
    assert done.returncode == 0, said
    assert "tracker: warning" not in done.stderr, said


def _imports(text: str) -> list[str]:
    found: list[str] = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.append(node.module)
    return found
