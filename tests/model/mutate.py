"""Break the agent on purpose, one thing at a time in a private copy, and see the simulator notice.

    python -m tests.model.mutate [--seeds 300] [NAME …]

Prints, for each mutation, how many seeds it took and what the simulator said. Exit status 1 when one went
unnoticed or no longer fits the source.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

#: Some faults make the agent do the same thing for ever.
TIMEOUT_S = 300.0


@dataclass(frozen=True)
class Mutation:
    """A text of a source file, and what to put in its place."""

    name: str
    file: str
    old: str
    new: str


MUTATIONS = (
    Mutation("position moves past what the server took", "uploader.py",
             "stream.moved_to(answer.next)", "stream.moved_to(parts[-1].piece.end)"),
    Mutation("an answer is not compared with what was sent", "uploader.py",
             "answer.next < start or not _was_sent(parts, answer.next)", "False"),
    Mutation("an answer moves the wrong stream", "uploader.py",
             "self._apply_one(own[0].stream, own, answer)",
             "self._apply_one(parts[0].stream, own, answer)"),
    Mutation("streams left out of an answer are forgotten", "uploader.py",
             'self._doubt(forgotten[0].stream, "the server does not answer for this stream")', "pass"),
    Mutation("failed streams are not learnt again", "lane.py",
             "if stream.parked is None:\n                    self.roster.relearn(stream)",
             "if stream.parked is None:\n                    self.roster.ready(stream)"),
    Mutation("the server's position is taken for zero", "positions.py",
             "self._roster.learned(stream, offset.next)", "self._roster.learned(stream, 0)"),
    Mutation("a refused line is dropped without a gap", "batch.py",
             "result.append(Missing(offset, size, reason))", "pass"),
    Mutation("a refused line is sent again and again", "uploader.py",
             "stream.refused[offset] = (size, reason)", "pass"),
    Mutation("a refused line takes the next one with it", "uploader.py",
             "stream.refused[offset] = (size, reason)", "stream.refused[offset] = (size + 27, reason)"),
    Mutation("the second half of a request is forgotten", "uploader.py",
             "await self.send(halves[1])", "pass"),
    Mutation("a new epoch changes nothing", "endpoint.py",
             "for tell in list(self.tell_restored):", "for tell in []:"),
    Mutation("idle servers are never asked", "endpoint.py",
             "return self._clock.monotonic() - self._heard_at >= self.settings.probe_interval_s",
             "return False"),
    Mutation("streams that ended stay ended after a restoration", "lane.py",
             "stream.ended = False", "pass"),
    Mutation("torn tails of dead writers are waited for", "tailer.py",
             "piece = next_piece(data, segment.seeds, more, growing, growing and waited, keep=False)",
             "piece = next_piece(data, segment.seeds, more, True, growing and waited, keep=False)"),
    Mutation("half a line of a live writer is damage", "tailer.py",
             "piece = next_piece(data, segment.seeds, more, growing, growing and waited, keep=False)",
             "piece = next_piece(data, segment.seeds, more, False, False, keep=False)"),
    Mutation("missing segments are skipped without a gap", "tailer.py",
             "reading.add_missing(size, _NO_HEADER if between else reason)", "reading.position += size"),
    Mutation("segments without HEADER at the end are forgotten", "tailer.py",
             "if size and current is not None:", "if False:"),
    Mutation("a stream is dead until its lock was asked", "scanner.py",
             "if not self._ask(entry) and not entry.announced:", "if not self._ask(entry) and False:"),
    Mutation("growth is not noticed", "scanner.py",
             "findings.grown.append(entry)", "pass"),
    Mutation("the end of a writer is not noticed", "scanner.py",
             "findings.writers.append(entry)", "pass"),
    Mutation("hidden segments are taken for removed ones", "scanner.py",
             "self._add_unlisted(directory, segments)", "pass"),
    Mutation("directories settle at once", "spool_users.py",
             "SETTLED_NS = 2_000_000_000", "SETTLED_NS = -10**18"),
    Mutation("unreadable streams are parked for ever", "roster.py",
             "UNREADABLE_S = 10.0", "UNREADABLE_S = 1e9"),
    Mutation("parked streams are never taken up", "roster.py",
             "and stream.parked.until <= now", "and stream.parked.until <= now - 1e9"),
    Mutation("a stream that moved to another key stays in its lane", "lanes.py",
             "former.roster.remove(stream)", "pass"),
    Mutation("users' keys are ignored", "credentials.py",
             "if key is not None and key != self._operators[name]:", "if False:"),
    Mutation("unreadable credentials are no credentials", "credentials.py",
             "if key is None and problem:", "if False:"),
    Mutation("a run's server is ignored", "credentials.py",
             "name = DEFAULT_SERVER if server is None else", "name = DEFAULT_SERVER if True else"),
    Mutation("files stay open", "open_files.py",
             "self._shrink(self._files_max - 1)", "pass"),
    Mutation("ends are not written down", "observations.py",
             "own.write(kinds.OBSERVED, observed.encode())", "pass"),
    Mutation("retention ignores what grew", "sim:sim_remover.py",
             'raise Left(f"{name} has grown")', "pass"),
    Mutation("runs are removed before they are shipped", "caretaker.py",
             "each.ended and each.parked is None and not each.live", "True"),
    Mutation("own segments go before the server has them", "segments.py",
             "if after.base <= position", "if True"),
    Mutation("memory in flight has no limit", "allowance.py",
             "MEMORY_PER_BYTE = 3", "MEMORY_PER_BYTE = 0"),
    Mutation("the probe gives up after a failure", "endpoint.py",
             "while self._breaker.is_open:\n                        await self._sleep_until(self._probe_at)\n"
             "                        await self._probe()",
             "if self._breaker.is_open:\n                        await asyncio.sleep(1e9)"),
    Mutation("other bytes under the same id are not noticed", "tailer.py",
             "if found != crc or end != position - last:", "if False:"),
)  # fmt: skip


def main() -> int:
    """Return the exit status."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--seeds", type=int, default=300)
    options.add_argument("names", nargs="*", help="only mutations with one of these in their name")
    arguments = options.parse_args()
    chosen = [m for m in MUTATIONS if not arguments.names or any(name in m.name for name in arguments.names)]
    missed = 0
    for mutation in chosen:
        verdict = try_mutation(mutation, arguments.seeds)
        missed += not verdict.startswith("noticed")
        print(f"{mutation.name}: {verdict}", flush=True)
    print(f"{len(chosen) - missed} of {len(chosen)} were noticed")
    return 1 if missed else 0


def try_mutation(mutation: Mutation, seeds: int) -> str:
    """Break one thing and return what came of it."""
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        for package in ("tracker_agent", "tracker"):
            found = importlib.util.find_spec(package)
            assert found is not None and found.origin is not None
            shutil.copytree(Path(found.origin).parent, root / package)
        shutil.copytree(Path(__file__).parent.parent / "model", root / "tests" / "model")
        place, _, name = mutation.file.rpartition(":")
        file = root / ("tests/model/simulator" if place else "tracker_agent") / name
        source = file.read_text(encoding="utf-8")
        if mutation.old not in source:
            return "does not fit the source any more"
        file.write_text(source.replace(mutation.old, mutation.new), encoding="utf-8")
        code = f"from tests.model.mutate import hunt; hunt({seeds})"
        try:
            hunted = subprocess.run(
                [sys.executable, "-c", code],
                cwd=root,
                env={**os.environ, "PYTHONPATH": directory},
                capture_output=True,
                text=True,
                check=False,
                timeout=TIMEOUT_S,
            )
        except subprocess.TimeoutExpired:
            return f"noticed: a simulation hangs, or {seeds} seeds take longer than {TIMEOUT_S:.0f} s"
        return (hunted.stdout or hunted.stderr).strip().splitlines()[-1]


def hunt(seeds: int) -> None:
    """Run seeds until one fails, and print what it said."""
    from tests.model.simulator.simulation import simulate

    for seed in range(seeds):
        problem = simulate(seed).problem
        if problem is not None:
            print(f"noticed by seed {seed}: {problem[:110]}")
            return
    print(f"NOT noticed by {seeds} seeds")


if __name__ == "__main__":
    sys.exit(main())
