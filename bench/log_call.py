"""How much slower log() is than packing the same values and writing them to a file, and than other
libraries.

    python bench/log_call.py [--rounds 5] [--calls 200000] [--only "10 scalars"]

- cases (log_cases.py): log()'s quantiles divided by those of `os.write(fd, msgpack.packb([time, step,
  values]))`, for 1 to 1000 floats, numpy and torch scalars (the latter in .venv-integrations), 8
  threads, with 1 ms of computing between calls, and while another process keeps the disk busy.
- peers (log_peers.py): tensorboardX and wandb offline in .venv-peers; memory and bytes per call, too.
- import: what `import tracker` costs beyond a bare Python with msgpack.

Everything is written below a temporary directory ($TMPDIR) and removed. `make peers integrations` makes
the two environments; without one its figures are missing, and the output says so.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter_ns
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.log_cases import CASES
from bench.log_peers import compare_peers
from bench.recording import ROOT, record

TARGETS = {
    "10 scalars p50 ratio": 2.5,
    "10 scalars p99.9 ratio": 3.0,
    "wandb p50 / tracker p50": 20.0,
    "memory added MiB": 5.0,
    "import ms": 20.0,
}
IMPORT_PROCESSES = 15
PEERS_PYTHON = ROOT / ".venv-peers" / "bin" / "python"
TORCH_PYTHON = ROOT / ".venv-integrations" / "bin" / "python"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--calls", type=int, default=200_000)
    parser.add_argument("--peer-calls", type=int, default=20_000)
    parser.add_argument(
        "--only", choices=[*CASES, "peers", "import"], help="measure this, print it, record nothing"
    )
    options = parser.parse_args()
    if options.only:
        print(json.dumps(measure(options.only, options), indent=2))
        return
    figures: dict[str, Any] = {
        "rounds": options.rounds,
        "file system": file_system(tempfile.gettempdir()),
        **{name: measure(name, options) for name in [*CASES, "peers", "import"]},
    }
    figures["targets"] = TARGETS
    figures["targets met"] = met(figures)
    record("log_call", figures)


def measure(name: str, options: argparse.Namespace) -> Any:
    """Return the figures of one case, of the peers or of the import."""
    if name == "import":
        return measure_import()
    if name == "peers":
        if not PEERS_PYTHON.exists():
            return "not measured: `make peers` was not run"
        return compare_peers(PEERS_PYTHON, options.rounds, options.peer_calls)
    python: Path | str = TORCH_PYTHON if CASES[name].kind == "torch" else sys.executable
    if not Path(python).exists():
        return "not measured: `make integrations` was not run"
    program = "from bench.log_cases import main; main()"
    command = [python, "-c", program, name, "--rounds", str(options.rounds), "--calls", str(options.calls)]
    environment = dict(os.environ, PYTHONPATH=f"{ROOT}{os.pathsep}{ROOT / 'shim' / 'src'}")
    answer = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(answer.stdout)


def measure_import() -> dict[str, float]:
    """Return the median times of fresh processes with msgpack alone and with tracker, ms."""
    times: dict[str, list[float]] = {"msgpack": [], "tracker": []}
    environment = dict(os.environ, PYTHONPATH=str(ROOT / "shim" / "src"))
    for _ in range(IMPORT_PROCESSES):
        for module, taken in times.items():
            started = perf_counter_ns()
            subprocess.run([sys.executable, "-c", f"import msgpack, {module}"], env=environment, check=True)
            taken.append((perf_counter_ns() - started) / 1e6)
    medians = {name: statistics.median(taken) for name, taken in times.items()}
    return {
        "python + msgpack ms": round(medians["msgpack"], 2),
        "python + msgpack + tracker ms": round(medians["tracker"], 2),
        "import ms": round(medians["tracker"] - medians["msgpack"], 2),
    }


def met(figures: dict[str, Any]) -> dict[str, bool]:
    """Return for each target that was measured whether it is met."""
    ten, peers = figures["10 scalars"], figures["peers"]
    answers = {
        "10 scalars p50 ratio": ten["p50 ratio"] <= TARGETS["10 scalars p50 ratio"],
        "10 scalars p99.9 ratio": ten["p99.9 ratio"] <= TARGETS["10 scalars p99.9 ratio"],
        "import ms": figures["import"]["import ms"] < TARGETS["import ms"],
    }
    if isinstance(peers, dict):
        wandb = peers["wandb p50 / tracker p50"]
        added = peers["tracker"]["memory added MiB"] - peers["floor"]["memory added MiB"]
        answers["wandb p50 / tracker p50"] = wandb >= TARGETS["wandb p50 / tracker p50"]
        answers["memory added MiB"] = added < TARGETS["memory added MiB"]
    return answers


def file_system(path: str) -> str:
    answer = subprocess.run(["stat", "-f", "-c", "%T", path], capture_output=True, text=True, check=False)
    return answer.stdout.strip()


if __name__ == "__main__":
    main()
