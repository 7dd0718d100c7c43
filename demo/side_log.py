"""Runs a training script and notes, in a file of its own, everything that the script logs.

    python -m demo.side_log FILE script.py [argument ...]

The note is written after tracker.log() has returned, so it lists what was promised to arrive. The
script knows nothing of it.
"""

import json
import runpy
import sys
from collections.abc import Mapping
from typing import Any, TextIO

import tracker


def note_calls(side_log: TextIO) -> None:
    """Let tracker.log() and tracker.finish() leave a line in the file."""
    log, finish = tracker.log, tracker.finish

    def noting_log(
        data: Mapping[str, Any], step: int | None = None, commit: bool | None = None, sync: bool | None = None
    ) -> None:
        at = _run().step if step is None else step
        log(data, step, commit, sync)
        _write(side_log, {"step": at, "values": dict(data)})

    def noting_finish(exit_code: int | None = None, quiet: bool | None = None) -> None:
        run = _run()
        end = {
            "run": run.id,
            "project": run.project,
            "config": dict(run.config),
            "summary": dict(run.summary),
        }
        finish(exit_code, quiet)
        _write(side_log, end)

    tracker.log, tracker.finish = noting_log, noting_finish


def _run() -> tracker.Run:
    assert tracker.run is not None
    return tracker.run


def _write(side_log: TextIO, entry: dict[str, Any]) -> None:
    side_log.write(json.dumps(entry) + "\n")


def main() -> None:
    """Run the script named on the command line."""
    _, side_log_path, *sys.argv = sys.argv
    with open(side_log_path, "w", buffering=1) as side_log:
        note_calls(side_log)
        runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
