"""The agent's end of the process that asks the driver."""

from __future__ import annotations

import json
import os
import select
import subprocess
import time
from collections.abc import Mapping, Sequence
from typing import Any

ANSWER_BYTES_MAX = 1024 * 1024
#: How long a process that was asked to end, or was killed, is waited for.
END_WAIT_S = 0.5


class Child:
    """One process that asks the driver."""

    def __init__(self, command: Sequence[str]) -> None:
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # Ctrl-C at a terminal is for the agent, which ends its child itself.
            start_new_session=True,
            bufsize=0,
        )
        self._rest = b""
        #: Whether the next answer is one of a driver that is open.
        self.answered = False
        #: Lines about events that came before the last answer.
        self.told: list[dict[str, Any]] = []

    def ask(self, question: Mapping[str, Any], deadline_s: float) -> dict[str, Any]:
        """Return the answer to one question. Raise TimeoutError, OSError or ValueError.

        What the driver told before it answered, or hung, is in `told`.
        """
        self.told = []
        deadline = time.monotonic() + deadline_s
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(question).encode() + b"\n")
        while True:
            answer = json.loads(self._read_line(deadline))
            if not isinstance(answer, dict):
                raise ValueError("an answer that is no map")  # noqa: TRY004 (like bytes that are no JSON)
            if "events" not in answer:
                break
            self.told.append(answer)
        self.answered = not answer.get("reopens")
        return answer

    def _read_line(self, deadline: float) -> bytes:
        assert self._process.stdout is not None
        fd = self._process.stdout.fileno()
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        while b"\n" not in self._rest:
            left = deadline - time.monotonic()
            if left <= 0 or not poll.poll(left * 1000):
                raise TimeoutError
            received = os.read(fd, 65536)
            if not received:
                raise ValueError(f"exit status {self._process.poll()}")
            self._rest += received
            if len(self._rest) > ANSWER_BYTES_MAX:
                raise ValueError("an answer without end")
        line, _, self._rest = self._rest.partition(b"\n")
        return line

    def interrupt(self) -> None:
        """Kill the process from another thread than the one that asks, which then notices."""
        self._process.kill()

    def gone(self) -> bool:
        """Return whether the process has ended (and reap it, so that it is no zombie)."""
        return self._process.poll() is not None

    def kill(self) -> None:
        """Kill the process; give it a moment to go."""
        self._close_pipes()
        self._process.kill()
        self._wait(END_WAIT_S)

    def end(self, wait_s: float = END_WAIT_S) -> None:
        """Let the process end by itself, else kill it."""
        self._close_pipes()
        if not self._wait(wait_s):
            self.kill()

    def _wait(self, timeout_s: float) -> bool:
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return False
        return True

    def _close_pipes(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except OSError:
                    # What was not written when the process went cannot be written now.
                    pass
