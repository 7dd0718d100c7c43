"""Trees in which whatever may happen between two passes does: no jump, and as little lost as can be."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.fake_processes import INIT, FakeProcesses
from tests.support.watched_processes import STEP_S, Watched
from tracker_agent.collectors.kernel import Kernel
from tracker_agent.collectors.process_stat import TICKS_PER_S

WRITERS = (10, 20)
PIDS = st.integers(30, 33)
#: Processor time in ticks, and bytes read.
Used = tuple[int, int]
acts = st.one_of(
    st.tuples(st.just("born"), PIDS, st.sampled_from((*WRITERS, *range(30, 34)))),
    st.tuples(st.just("use"), st.sampled_from((*WRITERS, *range(30, 34))), st.integers(0, 500)),
    st.tuples(st.just("exit"), PIDS, st.just(0)),
    st.tuples(st.just("end"), PIDS, st.just(0)),
    st.tuples(st.just("wait"), PIDS, st.just(0)),
    st.tuples(st.just("forget"), PIDS, st.just(0)),
)


class Truth:
    """Who used how much, and whose tree it was in, kept beside the files."""

    def __init__(self, root: Path) -> None:
        self.machine = FakeProcesses(root)
        self.writer_of: dict[int, int] = {}
        self.used = dict.fromkeys(WRITERS, 0)
        for writer in WRITERS:
            self.machine.born(writer, INIT, cpu=1234, waited_cpu=55, read=777)
            self.writer_of[writer] = writer
        for pid, parent in ((30, 10), (31, 30), (32, 31), (33, 20)):
            self.machine.born(pid, parent, cpu=1000, read=3000)
            self.writer_of[pid] = self.writer_of[parent]

    def act(self, act: str, pid: int, value: int, orderly: bool) -> None:
        """Do it where it can be done. orderly: nobody ends before its children, and all are waited for."""
        alive = self.machine.alive
        if act == "born" and pid not in alive and value in alive and alive[value].state == "R":
            self.machine.born(pid, value)
            self.writer_of[pid] = self.writer_of[value]
        elif act == "use" and pid in alive and alive[pid].state == "R":
            alive[pid].cpu += value
            alive[pid].read += 3 * value
            self.used[self.writer_of[pid]] += value
        elif act == "end":
            self.act("exit", pid, value, orderly)
            self.act("wait", pid, value, orderly)
        elif act == "exit" and pid in alive and alive[pid].state == "R":
            if not (orderly and any(child.parent == pid for child in alive.values())):
                self.machine.exits(pid)
        elif act == "wait" and pid in alive and alive[pid].state == "Z":
            self.machine.waited_for(pid)
        elif act == "forget" and not orderly and pid in alive and alive[pid].state == "Z":
            self.machine.forgotten(pid)


Act = tuple[str, int, int]
#: What happens before a pass, and what after so many of its reads.
Interval = tuple[list[Act], dict[int, Act]]


class InterruptedKernel(Kernel):
    """Lets something happen after so many reads."""

    def __init__(self, root: str) -> None:
        super().__init__(root)
        self.after: dict[int, Callable[[], None]] = {}
        self.reads = 0

    def text(self, name: str) -> str | None:
        text = super().text(name)
        self.reads += 1
        self.after.get(self.reads, lambda: None)()
        return text


def passes(story: Iterable[Interval], orderly: bool) -> Iterator[tuple[dict[int, Used], dict[int, Used]]]:
    """Yield for each pass what was told of each writer, and what it used, since the first pass."""
    # Thousands of small files: in memory where that can be had.
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with TemporaryDirectory(dir=memory) as directory:
        truth = Truth(Path(directory) / "machine")
        kernel = InterruptedKernel(str(truth.machine.root))
        watched = Watched(kernel, *WRITERS)
        truth.machine.write()
        watched.sample()
        told = dict.fromkeys(WRITERS, (0, 0))

        def interrupt(act: Act) -> None:
            truth.act(*act, orderly)
            truth.machine.write()

        for acts_before, acts_within in story:
            for act in acts_before:
                truth.act(*act, orderly)
            truth.machine.write()
            kernel.reads = 0
            kernel.after = {number: partial(interrupt, act) for number, act in acts_within.items()}
            for pid, values in watched.sample().items():
                cpu = round(values["process.cpu.percent"] / 100 * STEP_S * TICKS_PER_S)
                read = round(values["process.read.bytes_per_s"] * STEP_S)
                told[pid] = (told[pid][0] + cpu, told[pid][1] + read)
            yield dict(told), {pid: (used, 3 * used) for pid, used in truth.used.items()}


def within(low: dict[int, Used], high: dict[int, Used]) -> bool:
    return all(low[pid][kind] <= high[pid][kind] for pid in WRITERS for kind in (0, 1))


quiet_intervals = st.lists(st.tuples(st.lists(acts, max_size=8), st.just({})), max_size=6)
intervals = st.lists(
    st.tuples(st.lists(acts, max_size=6), st.dictionaries(st.integers(1, 16), acts, max_size=3)), max_size=6
)


@settings(max_examples=40, deadline=None)
@given(quiet_intervals)
def test_births_and_orderly_ends_lose_nothing_and_add_nothing(story: list[Interval]) -> None:
    for told, used in passes(story, orderly=True):
        assert told == used


@settings(max_examples=40, deadline=None)
@given(quiet_intervals)
def test_whatever_happens_no_more_is_told_than_was_used(story: list[Interval]) -> None:
    before = dict.fromkeys(WRITERS, (0, 0))
    used_before = dict(before)
    for told, used in passes(story, orderly=False):
        assert within(before, told)
        # Of each interval, and so of all together: no jump makes up for what was lost.
        for pid in WRITERS:
            for kind in (0, 1):
                assert told[pid][kind] - before[pid][kind] <= used[pid][kind] - used_before[pid][kind]
        before, used_before = told, used


@settings(max_examples=150, deadline=None)
@given(intervals)
def test_what_happens_within_a_pass_is_told_with_the_next(story: list[Interval]) -> None:
    rest: list[Interval] = [([], {}), ([], {})]
    for told, used in passes([*story, *rest], orderly=True):
        assert within(told, used)
    assert told == used


@settings(max_examples=40, deadline=None)
@given(intervals)
def test_whatever_happens_within_a_pass_no_more_is_told_than_was_used(story: list[Interval]) -> None:
    for told, used in passes(story, orderly=False):
        assert within(told, used)
