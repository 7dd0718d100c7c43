"""Builds and starts the example writers of other languages.

What a compiler makes is kept in ${XDG_CACHE_HOME:-~/.cache}/tracker-tests, by command and source.
"""

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple

from tests.support import require

WRITERS = Path(__file__).resolve().parents[2] / "examples" / "writers"


class Language(NamedTuple):
    """How the example in one language is built and started. compiler: followed by output and source."""

    source: str
    program: str  #: compiler or interpreter
    debian: str  #: the Debian package that has it
    compiler: tuple[str, ...] = ()
    locks: bool = True


LANGUAGES = {
    "c": Language("writer.c", "gcc", "gcc", ("-O2", "-Wall", "-Wextra", "-Werror", "-o")),
    "go": Language("writer.go", "go", "golang-go", ("build", "-o")),
    "rust": Language("writer.rs", "rustc", "rustc", ("-O", "-D", "warnings", "-o")),
    "javascript": Language("writer.js", "node", "nodejs", locks=False),
    "python27": Language("writer_python27.py", "python2.7", ""),
    "bash": Language("writer.sh", "bash", "bash", locks=False),
}


def command_of(name: str) -> list[str]:
    """Return the command that starts a writer, compiled where its language asks for that."""
    language = LANGUAGES[name]
    source = str(WRITERS / language.source)
    if name == "python27":
        return [require.python("2.7"), "-B", source]
    program = require.program(language.program, apt=language.debian)
    if not language.compiler:
        return [program, source]
    return [str(_compiled([program, *language.compiler], source))]


def _compiled(compiler: list[str], source: str) -> Path:
    key = hashlib.sha256("\0".join(compiler).encode() + Path(source).read_bytes()).hexdigest()[:20]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tracker-tests"
    target = cache / f"writer-{key}"
    if target.exists():
        return target
    cache.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(dir=cache))
    try:
        done = subprocess.run(
            [*compiler, str(fresh / "writer"), source],
            cwd=fresh,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        (fresh / "writer").rename(target)  # whichever test run comes last: they made the same
    finally:
        shutil.rmtree(fresh)
    return target
