"""Records a benchmark's figures beside what produced them: command, machine, date and commit.

A figure nobody can reproduce is worth little, so every script in bench/ ends in `record(...)`,
which writes bench/results/<name>.json and prints a table.
"""

import datetime
import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "bench" / "results"


def record(name: str, figures: Mapping[str, Any], results: Path = RESULTS) -> Path:
    """Write the figures to <results>/<name>.json, print them, and return the file's path."""
    entry = {
        "name": name,
        "command": command_line(sys.argv),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "machine": machine(),
        "figures": dict(figures),
    }
    results.mkdir(parents=True, exist_ok=True)
    path = results / f"{name}.json"
    path.write_text(json.dumps(entry, indent=2, default=str) + "\n")
    print(table(name, figures), flush=True)
    return path


def table(name: str, figures: Mapping[str, Any]) -> str:
    """Lay the figures out for reading; nested mappings become dotted names."""
    rows = list(_flatten(figures))
    width = max((len(label) for label, _ in rows), default=0)
    return "\n".join([name, *(f"  {label:<{width}}  {_shown(value)}" for label, value in rows)])


def command_line(argv: list[str]) -> str:
    """Return the command as one would type it in the repository root."""
    script = Path(argv[0]).resolve()
    if script.is_relative_to(ROOT):
        module = ".".join(script.relative_to(ROOT).with_suffix("").parts)
        return shlex.join(["python", "-m", module, *argv[1:]])
    return shlex.join(["python", script.name, *argv[1:]])


def machine() -> dict[str, Any]:
    """Describe the machine as far as it bears on speed; no host name, no paths."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(memory / 2**30, 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load_1m": round(os.getloadavg()[0], 2),
    }


def commit() -> str:
    """Return the checked-out commit, marked when tracked files differ from it; "" outside git."""
    head = _git("rev-parse", "--short=12", "HEAD")
    changed = _git("status", "--porcelain", "--untracked-files=no")
    return f"{head}+changes" if head and changed else head


def _git(*arguments: str) -> str:
    try:
        answer = subprocess.run(
            ["git", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=30, check=False
        )
    except FileNotFoundError:
        return ""
    return answer.stdout.strip() if answer.returncode == 0 else ""


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _flatten(figures: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    rows: list[tuple[str, Any]] = []
    for key, value in figures.items():
        if isinstance(value, Mapping):
            rows.extend(_flatten(value, f"{prefix}{key}."))
        else:
            rows.append((f"{prefix}{key}", value))
    return rows


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1000 else f"{value:,.0f}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return str(value)
