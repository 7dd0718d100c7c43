"""The only door to NVML: a process of its own that answers one JSON line for each line it is asked.

An NVML call can hang in the driver, where no thread can be stopped; the agent, in nvidia.py, puts a
deadline on every answer and kills this process. It ends when its stdin does, and lets the driver go.

    {"asleep": [index, …], "codecs": bool, "reopen": bool}         each may be left out
    → {"gpus": [{"index", "uuid", "name", …, "values": {name: number}, "problem": text?, "lost": bool?,
                 "processes": [{"pid", "memory_bytes", "sm_percent"}, …],
                 "mig": [{"index", "uuid", "gi", "ci", …, "values", "processes"}, …]}, …],
       "driver": text, "cuda": text,
       "reopens": bool}       true: the next answer takes as long as the first one
    → {"absent": text}        nothing to measure here; the process ends
    → {"fatal": text}         only a new process can go on; the process ends

What happened comes in a line of its own before the answer, lest it be lost when the answer hangs:

    → {"events": [{"kind", "index", "data", "gi"?, "ci"?}, …], "more_events": {what: number}}
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

from .nvidia_calls import Absent, Fatal
from .nvidia_driver import Driver


def main() -> int:
    """Answer until stdin ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    # Whatever a library prints must not come between the answers.
    os.dup2(2, 1)
    driver = Driver(time.monotonic)

    def say(line: dict[str, Any]) -> None:
        answers.write(json.dumps(line, separators=(",", ":")) + "\n")
        answers.flush()

    try:
        for line in sys.stdin:
            answer = _answer(driver, line, say)
            say(answer)
            if "gpus" not in answer:
                return 0
        driver.close()
    except (BrokenPipeError, Fatal):
        # Nobody listens any more; what the driver does not let go of, the end of this process does.
        pass
    return 0


def _answer(driver: Driver, line: str, say: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    asked = json.loads(line)
    asleep = frozenset(asked.get("asleep", ()))
    try:
        return driver.sample(say, asleep, bool(asked.get("codecs")), bool(asked.get("reopen")))
    except Absent as error:
        return {"absent": str(error)}
    except Fatal as error:
        return {"fatal": str(error)}


if __name__ == "__main__":
    sys.exit(main())
