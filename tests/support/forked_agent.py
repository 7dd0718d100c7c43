"""The pipeline in a forked process of another Unix user, as the system's agent runs.

Forked, because the interpreter and the checkout may lie where that user cannot read them.
"""

from __future__ import annotations

import asyncio
import concurrent.futures.thread
import encodings.idna  # both are imported late, when the other user can no longer read them
import json
import os
import signal
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.pipeline_process import main

assert concurrent.futures.thread and encodings.idna


class ForkedAgent:
    """A running agent: its status, and its end."""

    def __init__(self, pid: int, state: Path) -> None:
        self.pid = pid
        self._state = state

    def status(self) -> dict[str, Any]:
        """Ask for the status and wait for it."""
        file = self._state / "status.json"
        file.unlink(missing_ok=True)
        os.kill(self.pid, signal.SIGUSR1)
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            try:
                return json.loads(file.read_text())  # type: ignore[no-any-return]
            except (FileNotFoundError, ValueError):
                time.sleep(0.02)
        raise AssertionError("the agent does not say its status")


@contextmanager
def forked_agent(
    uid: int, group: int, state: Path, before: Callable[[], None] = lambda: None, **settings: Any
) -> Iterator[ForkedAgent]:
    """Run an agent as that user. before: what the child does first, such as setting limits."""
    state.mkdir(exist_ok=True)
    os.chown(state, uid, group)
    pid = os.fork()
    if pid == 0:
        try:
            before()
            os.setgroups([group])
            os.setgid(group)
            os.setuid(uid)
            asyncio.run(main({"state_dir": str(state), "watch": False, "scan_interval_s": 0.05, **settings}))
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(0)
    try:
        yield ForkedAgent(pid, state)
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
