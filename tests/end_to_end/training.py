"""A training process for the end-to-end tests: logs, and notes what log() returned from.

    python training.py RUN SIDE_LOG SEED RECORDS PER_SECOND

Each line of the side log, "step value\\n", is written with one os.write after log() has returned,
so that a SIGKILL at any moment leaves at most one record logged but not noted.
"""

import os
import random
import sys
import time

import tracker


def main() -> None:
    run_id, side_log, seed, records, per_second = sys.argv[1:]
    numbers = random.Random(int(seed))
    side = os.open(side_log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    tracker.init(project="end-to-end", id=run_id, config={"seed": int(seed)})
    started = time.monotonic()
    for step in range(int(records)):
        value = numbers.random()
        tracker.log({"value": value, "train/step_copy": step}, step=step)
        os.write(side, b"%d %s\n" % (step, repr(value).encode()))
        pause = started + (step + 1) / float(per_second) - time.monotonic()
        if pause > 0:
            time.sleep(pause)
    tracker.finish()


if __name__ == "__main__":
    main()
