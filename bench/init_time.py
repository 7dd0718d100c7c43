"""How long tracker.init() takes, in repositories of any size, and what `import tracker` costs.

    python bench/init_time.py [--starts 60] [--files 100000]

Each start is a process of its own in a git repository with uncommitted changes, its output going to a
pipe: `plain` has console and code off, so no process beside it; `small` and `huge` have both on, as
trainings do by default, in a repository of ten files and in one of very many. Measured are the import,
init(), and how long that process goes on after the training has ended (it is waited for before the next
start).
Target: 30 ms for init() at the 95th percentile, in both repositories.
"""

import argparse
import ctypes
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.recording import ROOT, record

TARGET_P95_MS = 30.0
SMALL_FILES = 10
FILES_PER_DIRECTORY = 500
#: Of so many files one is changed after the commit.
CHANGED_EVERY = 50
FILE_TEXT = "".join(f"line {number}\n" for number in range(20))
PR_SET_CHILD_SUBREAPER = 36

TRAINING = """
import json, os, sys
from time import perf_counter, process_time
began = perf_counter()
import tracker
imported, used = perf_counter(), process_time()
run = tracker.init(project="bench")
ready, used = perf_counter(), process_time() - used
tracker.log({"loss": 0.5})
tracker.finish()
ended = perf_counter()
times = {
    "import ms": imported - began,
    "init ms": ready - imported,
    "init processor ms": used,
    "log and finish ms": ended - ready,
}
with open(sys.argv[1], "w") as file:
    json.dump({name: 1000 * taken for name, taken in times.items()}, file)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--starts", type=int, default=60)
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--no-record", action="store_true", help="print the figures, keep none")
    options = parser.parse_args()
    # What trainings leave behind becomes our child, so that it can be waited for.
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    figures: dict[str, Any] = {"starts": options.starts, "files": options.files}
    with tempfile.TemporaryDirectory(prefix="tracker-bench-", ignore_cleanup_errors=True) as directory:
        small = make_repository(Path(directory, "small"), SMALL_FILES)
        huge = make_repository(Path(directory, "huge"), options.files)
        off = {"TRACKER_CONSOLE": "off", "TRACKER_DISABLE_CODE": "1"}
        for name, repository, settings in (("plain", small, off), ("small", small, {}), ("huge", huge, {})):
            started = [start(repository, Path(directory), settings) for _ in range(options.starts + 1)]
            # The first one finds nothing in the caches.
            figures[name] = {"first init ms": round(started[0]["init ms"], 2), **quantiles(started[1:])}
    figures["target p95 ms"] = TARGET_P95_MS
    figures["target met"] = all(figures[name]["init ms p95"] <= TARGET_P95_MS for name in ("small", "huge"))
    if options.no_record:
        print(json.dumps(figures, indent=2))
    else:
        record("init_time", figures)


def make_repository(path: Path, files: int) -> Path:
    """Return a repository of so many files, one of CHANGED_EVERY of them changed since its one commit."""
    path.mkdir()
    names = [path / f"{number // FILES_PER_DIRECTORY:04d}" / f"{number}.py" for number in range(files)]
    for name in names:
        name.parent.mkdir(exist_ok=True)
        name.write_text(FILE_TEXT)
    identity = ["-c", "user.name=bench", "-c", "user.email=bench@localhost"]
    for arguments in (["init", "-q"], ["add", "."], [*identity, "commit", "-q", "-m", "all"]):
        subprocess.run(["git", *arguments], cwd=path, check=True)
    for name in names[::CHANGED_EVERY]:
        name.write_text(FILE_TEXT + "changed\n")
    return path


def start(repository: Path, directory: Path, settings: dict[str, str]) -> dict[str, float]:
    """Return the times that one training took, once everything that it started has ended."""
    answer = directory / "answer.json"
    # Not PYTHONDONTWRITEBYTECODE: what is installed has its bytecode beside it.
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("TRACKER_", "PYTHON"))
    }
    environment |= {
        "PYTHONPATH": str(ROOT / "shim" / "src"),
        "TRACKER_DIR": str(directory / "spool"),
        "TRACKER_SILENT": "1",
        **settings,
    }
    training = subprocess.Popen(
        [sys.executable, "-c", TRAINING, str(answer)],
        cwd=repository,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    output, _ = training.communicate()
    if training.returncode:
        raise RuntimeError(output.decode(errors="replace"))
    ended = perf_counter()
    while True:
        try:
            os.wait()
        except ChildProcessError:
            break
    return json.loads(answer.read_text()) | {"process beside it ms": 1000 * (perf_counter() - ended)}


def quantiles(started: list[dict[str, float]]) -> dict[str, float]:
    figures = {}
    for name in started[0]:
        values = sorted(each[name] for each in started)
        figures[f"{name} p50"] = round(values[len(values) // 2], 2)
        figures[f"{name} p95"] = round(values[min(int(0.95 * len(values)), len(values) - 1)], 2)
    return figures


if __name__ == "__main__":
    main()
