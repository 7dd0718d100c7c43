"""The fleet: training processes that come and go all the time, by themselves and by faults."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

from tests.chaos.expectation import Expectation
from tests.support.agent_process import training_environment

TRAINING = Path(__file__).with_name("training.py")
PER_SECOND = 40
LIFE_S = (2.0, 12.0)
FORKS_OF_10 = 3
KEEP_UP_S = 0.1
#: A process in an uninterruptible write ends once its disk does.
END_S = 60.0


@dataclass
class Training:
    """One training process (and its child, if it forks), and what is expected of it."""

    process: subprocess.Popen[bytes]
    expectations: list[Expectation]
    stopped: bool = False

    def signal(self, number: int) -> None:
        """Send a signal to the process and its child."""
        try:
            os.killpg(self.process.pid, number)
        except ProcessLookupError:
            pass


class Fleet:
    """Keeps `size` training processes running. Thread-safe."""

    def __init__(self, size: int, side_logs: Path, numbers: random.Random) -> None:
        self.size = size
        self.spool: Path | None = None  #: None: nobody may start
        self.environment: dict[str, str] = {}
        self.expectations: list[Expectation] = []
        self.lock = threading.RLock()
        self._side_logs = side_logs
        self._numbers = numbers
        self._running: list[Training] = []
        self._started = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._keep_up, name="fleet")
        side_logs.mkdir(parents=True, exist_ok=True)

    def open(self) -> None:
        """Begin to start processes."""
        self._thread.start()

    def close(self) -> None:
        """Start no more, let none hang, and wait until all that run have ended."""
        self._over.set()
        self._thread.join()
        for training in self._running:
            training.signal(signal.SIGCONT)
        for training in list(self._running):
            training.process.wait(END_S)
        self._reap()

    def pick(self, count: int = 1) -> list[Training]:
        """Return some that run."""
        with self.lock:
            self._reap()
            return self._numbers.sample(self._running, min(count, len(self._running)))

    def kill_all(self) -> None:
        """SIGKILL all, and start no more until `spool` is set again."""
        with self.lock:
            self.spool = None
            for training in self._running:
                training.signal(signal.SIGKILL)
            for training in list(self._running):
                training.process.wait(END_S)
            self._reap()

    def start(
        self,
        run: str | None = None,
        metric: str = "value",
        life_s: float | None = None,
        fork: bool | None = None,
        prefix: tuple[str, ...] = (),
        spool: Path | None = None,
    ) -> Training:
        """Start one, of a run of its own or of the run given."""
        with self.lock:
            self._started += 1
            number = self._started
            records = int((life_s or self._numbers.uniform(*LIFE_S)) * PER_SECOND)
            forks = self._numbers.randrange(10) < FORKS_OF_10 if fork is None else fork
            side = self._side_logs / str(number)
            where = spool or self.spool
            assert where is not None
            expected = [Expectation(run or f"run{number}", metric, side)]
            if forks:
                expected.append(Expectation(expected[0].run, metric + "/child", Path(f"{side}.child")))
            process = subprocess.Popen(
                [
                    *(*prefix, sys.executable, str(TRAINING), expected[0].run, str(side), metric),
                    *(str(records), str(PER_SECOND), str(records // 3 if forks else 0)),
                ],
                env=training_environment(where, TRACKER_SILENT="1", **self.environment),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
            training = Training(process, expected)
            self._running.append(training)
            self.expectations += expected
            return training

    def _keep_up(self) -> None:
        while not self._over.wait(KEEP_UP_S):
            with self.lock:
                self._reap()
                if self.spool is not None and len(self._running) < self.size:
                    self.start()

    def _reap(self) -> None:
        for training in list(self._running):
            code = training.process.poll()
            if code is not None:
                # A child whose parent was killed goes on by itself otherwise.
                training.signal(signal.SIGKILL)
                self._running.remove(training)
                for expected in training.expectations:
                    expected.finished = code == 0
