"""A training process of the chaos run: logs, and notes what became of each record.

    python training.py RUN SIDE_LOG METRIC RECORDS PER_SECOND FORK_AT

The side log lies where no fault reaches. Each line of it is one write: "k STEP VALUE" for a record that log()
returned from as kept, "d STEP VALUE" for one that the disk refused and log() counted as dropped, "x" where it
refused the EXIT. FORK_AT: the step at which to fork; the child logs METRIC/child to a stream of its own and
notes it in SIDE_LOG.child. 0: never.
"""

from __future__ import annotations

import os
import sys
import time

import tracker


def main() -> None:
    run_id, side_log, metric, records, per_second, fork_at = sys.argv[1:]
    run = tracker.init(project="chaos", id=run_id)
    steps = int(records)
    child = 0
    if int(fork_at):
        follow(run, side_log, metric, 0, int(fork_at), float(per_second))
        child = os.fork()
        if child == 0:
            follow(run, side_log + ".child", metric + "/child", int(fork_at), steps, float(per_second))
            finish(run, side_log + ".child")
            os._exit(0)
    follow(run, side_log, metric, int(fork_at), steps, float(per_second))
    if child:
        os.waitpid(child, 0)
    finish(run, side_log)


def finish(run: tracker.Run, side_log: str) -> None:
    """End the run, and note it if that could not be written down."""
    lost = lost_by(run)
    tracker.finish()
    if lost_by(run) != lost:
        side = os.open(side_log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.write(side, b"x\n")
        os.close(side)


def follow(run: tracker.Run, side_log: str, metric: str, start: int, end: int, per_second: float) -> None:
    """Log steps at a steady rate."""
    run._here()  # a fork's own account of what is lost begins here
    side = os.open(side_log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    began = time.monotonic()
    for step in range(start, end):
        value = (step * 2654435761 + os.getpid()) % 1000003 / 7
        lost = lost_by(run)
        run.log({metric: value}, step=step)
        kept = lost_by(run) == lost
        os.write(side, b"%s %d %s\n" % (b"k" if kept else b"d", step, repr(value).encode()))
        pause = began + (step + 1 - start) / per_second - time.monotonic()
        if pause > 0:
            time.sleep(pause)
    os.close(side)


def lost_by(run: tracker.Run) -> int:
    """Return how many records of this run were refused in this process so far."""
    return sum(each.lost for each in run._recorders.values())


if __name__ == "__main__":
    main()
