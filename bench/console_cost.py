"""What recording the console costs: writing to a pipe and to a file, the run's begin and end, an idle second.

    python -m bench.console_cost

Each figure is the median of several processes of their own; "off" and "redirect" take turns, so that
whatever else the machine does meets both.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

ROUNDS = 5
MEGABYTES = 200

SCRIPT = """
import json, os, sys, time
import tracker
started = time.perf_counter()
run = tracker.init()
begun = time.perf_counter()
os.write(1, b"first\\n")
time.sleep(1.0)  # the other processes have started, and are idle
def spent():
    # Processor seconds of whoever has the channel's other end.
    here, total = os.readlink("/proc/self/fd/1"), 0
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            links = [os.readlink("/proc/%s/fd/%s" % (pid, fd)) for fd in os.listdir("/proc/%s/fd" % pid)]
            if here in links and int(pid) != os.getpid():
                fields = open("/proc/%s/stat" % pid).read().rpartition(")")[2].split()
                total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        except OSError:
            continue
    return total
idle = spent() if sys.argv[1] == "redirect" else 0.0
time.sleep(3.0)
idle = spent() - idle if sys.argv[1] == "redirect" else 0.0
block = (b"%0127d\\n" % 7) * 8192
before = time.perf_counter()
for _ in range(MEGABYTES):
    os.write(1, block)
written = time.perf_counter()
tracker.finish()
ended = time.perf_counter()
json.dump(
    {
        "init_ms": (begun - started) * 1e3,
        "finish_ms": (ended - written) * 1e3,
        "MB_per_s": MEGABYTES * len(block) / 1e6 / (written - before),
        "idle_percent": idle / 3.0 * 100,
    },
    sys.stderr,
)
""".replace("MEGABYTES", str(MEGABYTES))


def measure(console: str, target: str, directory: Path) -> dict[str, float]:
    """Run one training; return its figures."""
    environ = dict(
        os.environ,
        TRACKER_DIR=str(directory / "spool"),
        TRACKER_CONSOLE=console,
        TRACKER_SILENT="1",
        TRACKER_DISABLE_CODE="1",
    )
    command = [sys.executable, "-c", textwrap.dedent(SCRIPT), console]
    with (directory / "out.log").open("wb") as file:
        reader = subprocess.Popen(
            ["cat"], stdin=subprocess.PIPE, stdout=file if target == "file" else subprocess.DEVNULL
        )
        with reader:
            output = file if target == "file" else reader.stdin
            result = subprocess.run(command, env=environ, stdout=output, stderr=subprocess.PIPE, check=True)
    figures: dict[str, float] = json.loads(result.stderr)
    return figures


def main() -> None:
    """Print a table of medians."""
    print(f"{'':20}{'init ms':>10}{'finish ms':>12}{'MB/s':>8}{'idle % of a core':>18}")
    for target in ("pipe", "file"):
        found: dict[str, list[dict[str, float]]] = {"off": [], "redirect": []}
        for _ in range(ROUNDS):
            for console, figures in found.items():
                with tempfile.TemporaryDirectory() as directory:
                    figures.append(measure(console, target, Path(directory)))
        for console, figures in found.items():
            names = ("init_ms", "finish_ms", "MB_per_s", "idle_percent")
            init, finish, rate, idle = (statistics.median(each[name] for each in figures) for name in names)
            print(f"{target + ' ' + console:20}{init:10.1f}{finish:12.2f}{rate:8.0f}{idle:18.2f}")


if __name__ == "__main__":
    main()
