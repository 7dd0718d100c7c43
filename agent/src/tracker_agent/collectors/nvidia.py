"""nvidia: GPUs through NVML, asked in one child process (nvidia_child.py) with a deadline.

A hung driver costs the GPU values and nothing else. The child is killed when it does not answer, and a
new one is started only when the old one is gone: a process stuck in the driver survives SIGKILL, and a
second one would get stuck beside it.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from .collector import Collector, CollectorError, Context, Metric, NothingHere, Reading

#: Where persistence mode is off, the first call takes seconds for each GPU.
FIRST_DEADLINE_S = 60.0
DEADLINE_S = 5.0
RESTART_FIRST_S = 1.0
RESTART_MAX_S = 60.0
#: How often a machine without a driver is looked at again: it may get one without a reboot.
ABSENT_RECHECK_S = 300.0
#: Good answers in a row after which a restart is tried at once again.
HEALTHY_ANSWERS = 30
ANSWER_BYTES_MAX = 1024 * 1024

_FACTS = ("index", "uuid", "name", "memory_bytes")
_COMMAND = (sys.executable, "-P", "-m", "tracker_agent.collectors.nvidia_child")


class NvidiaCollector(Collector):
    """Values of each GPU under host.gpu.<index>."""

    name = "nvidia"
    metrics = (
        Metric(
            "host.gpu.#.utilization.percent",
            "%",
            "nvmlDeviceGetUtilizationRates",
            "time with a kernel running; not on MIG",
        ),
        Metric(
            "host.gpu.#.memory_controller.percent",
            "%",
            "nvmlDeviceGetUtilizationRates",
            "time the memory was read or written",
        ),
        Metric(
            "host.gpu.#.memory.used.bytes", "bytes", "nvmlDeviceGetMemoryInfo_v2", "memory in use by programs"
        ),
        Metric("host.gpu.#.memory.total.bytes", "bytes", "nvmlDeviceGetMemoryInfo_v2", "memory of the GPU"),
        Metric("host.gpu.#.memory.percent", "%", "nvmlDeviceGetMemoryInfo_v2", "used of total"),
        Metric("host.gpu.#.temperature.celsius", "°C", "nvmlDeviceGetTemperature", "temperature of the chip"),
        Metric(
            "host.gpu.#.power.watts",
            "W",
            "nvmlDeviceGetPowerUsage",
            "board power; mean of 1 s on Ampere and later, GA100 aside",
        ),
        Metric("host.gpu.#.power_limit.watts", "W", "nvmlDeviceGetEnforcedPowerLimit", "the limit in force"),
        Metric("host.gpu.#.clock.sm.mhz", "MHz", "nvmlDeviceGetClockInfo", "clock of the multiprocessors"),
        Metric("host.gpu.#.clock.memory.mhz", "MHz", "nvmlDeviceGetClockInfo", "clock of the memory"),
    )

    def __init__(
        self,
        context: Context | None = None,
        command: Sequence[str] = _COMMAND,
        deadline_s: float = DEADLINE_S,
        first_deadline_s: float = FIRST_DEADLINE_S,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(context)
        self._command = tuple(command)
        self._deadline_s = deadline_s
        self._first_deadline_s = first_deadline_s
        self._monotonic = monotonic
        self._child: Child | None = None
        self._dying: Child | None = None
        self._start_at = monotonic()
        self._delay_s = RESTART_FIRST_S
        self._good = 0
        self._waiting: Exception | None = None

    def sample(self) -> Reading:
        child = self._child or self._start()
        deadline_s = self._deadline_s if child.answered else self._first_deadline_s
        try:
            answer = child.ask(deadline_s)
        except TimeoutError as error:
            raise self._lose(f"the driver did not answer within {deadline_s:g} s") from error
        except (OSError, ValueError) as error:
            raise self._lose(f"the process that asks the driver ended: {error}") from error
        if "absent" in answer:
            self._lose("")
            self._start_at = self._monotonic() + ABSENT_RECHECK_S
            self._waiting = NothingHere(answer["absent"])
            raise self._waiting
        if "fatal" in answer:
            raise self._lose(str(answer["fatal"]))
        self._good += 1
        if self._good >= HEALTHY_ANSWERS:
            self._delay_s = RESTART_FIRST_S
        return _reading(answer)

    def close(self) -> None:
        for child in (self._child, self._dying):
            if child is not None:
                child.end()
        self._child = self._dying = None

    def _start(self) -> Child:
        """Return a new child. Raise what is waited for while there must be none."""
        if self._dying is not None:
            if not self._dying.gone():
                raise CollectorError("the driver hangs and does not let go of the process that asked it")
            self._dying = None
        if self._waiting is not None and self._monotonic() < self._start_at:
            raise self._waiting
        try:
            self._child = Child(self._command)
        except OSError as error:
            raise self._lose(f"cannot start the process that asks the driver: {error}") from error
        self._waiting = None
        self._good = 0
        return self._child

    def _lose(self, reason: str) -> CollectorError:
        """Kill the child, and let none start until the delay, longer each time, is over."""
        if self._child is not None:
            self._child.kill()
            self._dying = None if self._child.gone() else self._child
            self._child = None
        self._start_at = self._monotonic() + self._delay_s
        self._delay_s = min(2 * self._delay_s, RESTART_MAX_S)
        self._waiting = CollectorError(reason)
        return self._waiting


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
        self.answered = False

    def ask(self, deadline_s: float) -> dict[str, Any]:
        """Return the answer to one question. Raise TimeoutError, OSError or ValueError."""
        assert self._process.stdin is not None
        self._process.stdin.write(b"sample\n")
        answer = json.loads(self._read_line(time.monotonic() + deadline_s))
        if not isinstance(answer, dict):
            raise ValueError("an answer that is no map")  # noqa: TRY004 (like bytes that are no JSON)
        self.answered = True
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

    def gone(self) -> bool:
        """Return whether the process has ended (and reap it, so that it is no zombie)."""
        return self._process.poll() is not None

    def kill(self) -> None:
        """Kill the process; give it a moment to go."""
        self._close_pipes()
        self._process.kill()
        self._wait(0.5)

    def end(self) -> None:
        """Let the process end by itself, else kill it."""
        self._close_pipes()
        if not self._wait(0.5):
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


def _reading(answer: dict[str, Any]) -> Reading:
    values: dict[str, float] = {}
    problems = []
    inventory = []
    for gpu in answer["gpus"]:
        index = gpu["index"]
        if "problem" in gpu:
            problems.append(f"GPU {index}: {gpu['problem']}")
        values.update({f"host.gpu.{index}.{name}": float(value) for name, value in gpu["values"].items()})
        inventory.append({name: gpu[name] for name in _FACTS if name in gpu})
    facts = {"gpus": inventory, "gpu_driver": answer.get("driver"), "cuda": answer.get("cuda")}
    return Reading(values, tuple(problems), facts)
