"""Runs of several users of a machine: they log known values through the real shim until they are told to end.

What log() has returned from, each notes in a file beside the spool: that is what the server must hold, once.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from tests.end_to_end.acknowledged import Points, first_difference, read_points
from tests.support.agent_process import wait_until
from tests.support.booted import Machine
from tests.support.booted_root import USERS
from tests.support.installed import Service, end, train

PROJECT = "booted"
#: For each user a directory that is his.
NOTES = "/var/notes"
#: A run that ends at once. Argument: its id.
SHORT_RUN = """
import sys, tracker
tracker.init(project="booted", id=sys.argv[1]).log({"x": 1})
tracker.finish()
"""
#: Arguments: a directory for the notes, records a second, ids of runs. One process for each run.
SCRIPT = """
import os, random, sys, time
import tracker

notes, per_second, *runs = sys.argv[1:]

def write(run):
    random.seed(run)
    side = os.open(f"{notes}/{run}", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    tracker.init(project="booted", id=run)
    step, began = 0, time.monotonic()
    while not os.path.exists(f"{notes}/{run}.end"):
        value = random.random()
        tracker.log({"value": value}, step=step)
        os.write(side, b"%d %s\\n" % (step, repr(value).encode()))
        step += 1
        time.sleep(max(0, began + step / float(per_second) - time.monotonic()))
    tracker.finish()

writers = []
for run in runs:
    writer = os.fork()
    if not writer:
        write(run)
        sys.exit(0)
    writers.append(writer)
failed = [writer for writer in writers if os.waitpid(writer, 0)[1]]
sys.exit(f"{len(failed)} writers failed" if failed else 0)
"""


class Writers:
    """Some runs that are being written, the same number for each user."""

    def __init__(self, machine: Machine, name: str, runs_per_user: int, per_second: int) -> None:
        self.machine = machine
        self.runs = {user: [f"{name}-{user}-{n}" for n in range(runs_per_user)] for user in USERS}
        for user in USERS:
            machine.run("install", "-d", "-m", "700", "-o", user, f"{NOTES}/{user}")
        self._processes: list[subprocess.Popen[str]] = [
            train(
                machine,
                user,
                SCRIPT,
                f"{NOTES}/{user}",
                str(per_second),
                *runs,
                start=machine.start,
            )
            for user, runs in self.runs.items()
        ]
        self.wait_for_more()

    def wait_for_more(self, records: int = 10) -> None:
        """Return once every run has logged some more records: log() waits for nobody."""
        before = self._counts()

        def more() -> bool:
            now = self._counts()
            return all(now.get(run, 0) >= before.get(run, 0) + records for _, run in self._all())

        wait_until(more, what=f"{records} more records of each run")

    def end(self) -> None:
        """Let all runs finish, and wait until they have."""
        flags = [f"{NOTES}/{user}/{run}.end" for user, run in self._all()]
        self.machine.run("touch", *flags)
        for process in self._processes:
            end(process)

    def check(self, service: Service) -> None:
        """Fail unless the server has every run finished, with exactly what was noted, in order."""
        for user, run in self._all():
            service.run_in_state(PROJECT, run, "finished")
            noted, stored = self.noted(user, run), read_points(service, run, project=PROJECT)
            assert stored == noted, f"{run}: {first_difference(noted, stored)}"

    def noted(self, user: str, run: str) -> Points:
        """Return (step, value) of each record that log() has returned from."""
        done = self.machine.run("cat", f"{NOTES}/{user}/{run}", check=False)
        text = done.stdout[: done.stdout.rfind("\n") + 1]
        return [(int(step), float(value)) for step, value in (line.split() for line in text.splitlines())]

    def _counts(self) -> dict[str, int]:
        """Return how many records each run has logged; a run that has none may be missing."""
        files = [f"{NOTES}/{user}/{run}" for user, run in self._all()]
        lines = [
            line.split() for line in self.machine.run("wc", "-l", *files, check=False).stdout.splitlines()
        ]
        return {path.rpartition("/")[2]: int(count) for count, path in lines}

    def _all(self) -> Sequence[tuple[str, str]]:
        return [(user, run) for user, runs in self.runs.items() for run in runs]


@contextmanager
def writing(
    machine: Machine, name: str, service: Service | None, runs_per_user: int = 1, per_second: int = 50
) -> Iterator[Writers]:
    """Have runs written meanwhile. In the end all of it must be on the server, where one is given."""
    writers = Writers(machine, name, runs_per_user, per_second)
    try:
        yield writers
        writers.wait_for_more()
    finally:
        writers.end()
    if service is not None:
        writers.check(service)
