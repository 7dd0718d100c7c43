"""SIGKILL at any moment: nothing that log() returned from is missing."""

import os
import random
import signal
import time
from pathlib import Path

from tests.shim.scripts import start_script
from tracker.protocol import kinds
from tracker.protocol.stream import Record, StreamReader

KILLS = 12

SCRIPT = """
import os, sys, tracker
side = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
tracker.init(id="run")
tracker.run._recorder._writer.segment_bytes = 20000
step = 0
while True:
    tracker.log({"n": step, "x": 0.5}, step=step)
    os.write(side, b"%d\\n" % step)
    step += 1
"""


def test_nothing_that_log_returned_from_is_missing_after_sigkill(tmp_path: Path) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    moments = random.Random(seed)
    for number in range(KILLS):
        spool, side = tmp_path / str(number), tmp_path / f"{number}.side"

        process = start_script(SCRIPT, str(side), TRACKER_DIR=str(spool))
        deadline = time.monotonic() + 60
        while not (side.exists() and side.stat().st_size) and time.monotonic() < deadline:
            time.sleep(0.005)
        time.sleep(moments.random() * 0.15)
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=60)

        noted = side.read_text().count("\n")
        assert noted > 0
        stored = read_steps(spool)
        assert stored[:noted] == list(range(noted))
        assert len(stored) - noted in (0, 1)


def read_steps(spool: Path) -> list[int]:
    """Return the steps of the one stream in a spool, read as the agent reads it."""
    from tracker.protocol.bodies import decode_metrics
    from tracker.protocol.layout import parse_live_name

    directory = spool / str(os.geteuid()) / "run"
    (stream,) = [found for found in map(parse_live_name, os.listdir(directory)) if found is not None]
    reader = StreamReader(str(directory), stream, live=lambda: False, damage_wait_s=0.0)
    records = [item for item in reader.read() if isinstance(item, Record) and item.kind == kinds.METRICS]
    return [int(decode_metrics(record.body).step or 0) for record in records]
