"""Chaos: real trainings, agents and a server, and hundreds of faults; then every record is accounted for.

    python -m tests.chaos [--faults 300] [--seed N] [--writers 20] [--only NAME] [--keep DIR]

As root it first goes into namespaces of its own (mounts, network, processes): nothing outside can be hurt,
and nothing is left behind however it ends. Unprivileged, the faults that need root are left out and named.
Exit status: 0 if every promise was kept.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import sys
import tempfile
import time
from pathlib import Path

from tests.chaos.arena import Arena
from tests.chaos.fault import FAULTS, available
from tests.chaos.storm import Storm
from tests.chaos.verdict import Verdict, judge

#: What a fault takes on the whole, with those of other domains beside it.
FAULT_S = 2.5
PATIENCE_S = 120.0
#: With as many faults each kind must come at least once.
EVERY_KIND_FROM = 100
#: What the server writes when it did not know better.
UNFORESEEN = re.compile(r'Traceback|"internal"|request failed')
UNFORESEEN_SHOWN = 5
SANDBOX = ("unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--faults", type=int, default=300)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--writers", type=int, default=20)
    parser.add_argument("--only", default="", help="only faults whose name contains this")
    parser.add_argument("--keep", type=Path, default=None, help="leave logs and side logs there")
    parser.add_argument("--sandboxed", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.seed is None:
        options.seed = int(os.environ.get("TRACKER_TEST_SEED", str(random.SystemRandom().randrange(2**32))))
    if os.geteuid() == 0 and not options.sandboxed:
        again = [*SANDBOX, sys.executable, "-m", "tests.chaos", "--sandboxed", f"--seed={options.seed}"]
        os.execvp(SANDBOX[0], [*again, *sys.argv[1:]])
    if options.sandboxed:
        # Names of network namespaces are files, which a killed run would leave behind.
        os.system("ip link set lo up; mkdir -p /run/netns; mount -t tmpfs tmpfs /run/netns")
    with tempfile.TemporaryDirectory(prefix="tracker-chaos-") as directory:
        root = options.keep or Path(directory)
        root.mkdir(parents=True, exist_ok=True)
        return run(root, options)


def run(root: Path, options: argparse.Namespace) -> int:
    print(f"TRACKER_TEST_SEED={options.seed}", flush=True)
    began = time.monotonic()
    every_kind = options.faults >= EVERY_KIND_FROM
    with Arena(root, options.writers, random.Random(options.seed)) as arena:
        storm = Storm(arena, options.seed, options.faults, every_kind, say, options.only)
        storm.rage(60 + options.faults * FAULT_S)
        raged_s = time.monotonic() - began
        print(f"the storm is over after {raged_s:.0f} s; waiting for what is under way", flush=True)
        for failure in storm.failures:
            print(f"PROBLEM this fault could not be done or mended: {failure}")
        if storm.failures:
            return 1
        arena.fleet.close()
        settled = time.monotonic()
        verdict = judge(arena.server, arena.fleet.expectations, PATIENCE_S, arena.keep_up)
        settled_s = time.monotonic() - settled
        server_log = arena.server.log()
        for host in arena.hosts:
            status = json.dumps(host.agent.status(), indent=1)
            (root / f"status-{host.name}.json").write_text(status)
        ended = sum(host.ended_by_itself for host in arena.hosts)
        print(f"agents that could not go on, started again as systemd does: {ended}")
    show(storm, verdict, raged_s, settled_s)
    problems = [*storm.failures, *verdict.problems]
    if storm.count < options.faults or (every_kind and storm.not_fired):
        problems.append(f"only {storm.count} faults; never: {', '.join(storm.not_fired) or 'none'}")
    unforeseen = [line for line in server_log.splitlines() if UNFORESEEN.search(line)]
    if unforeseen:
        problems.append("the server's log has failures that nobody foresaw")
        for line in unforeseen[:UNFORESEEN_SHOWN]:
            print(f"the server's log: {line}")
    for problem in problems[:20]:
        print(f"PROBLEM {problem}")
    good = verdict.good and not problems
    print("VERDICT " + ("every promise was kept" if good else f"BROKEN ({len(problems)} problems)"))
    return 0 if good else 1


def say(text: str) -> None:
    print(text, flush=True)


def show(storm: Storm, verdict: Verdict, raged_s: float, settled_s: float) -> None:
    print(f"\n{storm.count} faults of {len(storm.fired)} kinds in {raged_s:.0f} s:")
    for name, count in sorted(storm.fired.items()):
        print(f"  {name:34}{count:5}")
    here = {each.name for each in available()}
    missing = [each.name for each in FAULTS if each.name not in here]
    if missing:
        print(f"left out, as they need root: {', '.join(missing)}")
    print(f"\n{verdict.writers} writers of {verdict.runs} runs, settled within {settled_s:.0f} s:")
    for label, value in (
        ("records stored", verdict.records),
        ("lost", verdict.lost),
        ("doubled", verdict.doubled),
        ("out of order", verdict.disordered),
        ("never logged", verdict.invented),
        ("gone with the power", verdict.power),
        ("given up after an injected refusal", verdict.given_up),
        ("refused by the disk, counted", verdict.dropped),
        ("of these, reported to the server", verdict.reported),
    ):
        print(f"  {label:36}{value:8}")
    for reason, count in sorted(verdict.gaps.items()):
        print(f"  gap: {reason:60}{count:4}")


if __name__ == "__main__":
    sys.exit(main())
