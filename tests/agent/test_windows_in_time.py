"""Windows of a whole sampler against a naive model: missing samples, suspended hosts, stalls, clock steps.

Time is virtual. Every sample says when it was taken and how often time had been cut before, so that a
window shows by itself what it is about.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.virtual_time import VirtualClock, run_virtually
from tracker.protocol import kinds
from tracker.protocol.bodies import Sample, decode_sample
from tracker_agent.collector_thread import CollectorThread, Done, Outcome
from tracker_agent.collectors.collector import Collector, CollectorError, Context, Reading
from tracker_agent.host_records import RunStream
from tracker_agent.sampler import FIRST_INTERVAL_S, GAP_S, Sampler
from tracker_agent.settings import CollectorSettings
from tracker_agent.streams import StreamKey

INTERVAL_S = 2.0
WINDOW_S = 10.0
AFTER_S = 0.5
RUN: StreamKey = (1000, bytes(16))


@dataclass(frozen=True)
class Step:
    """What happens at one sample: its value, if there is one, then what happens to time.

    hung_s: the sample itself takes so long. The rest happens AFTER_S behind it.
    """

    value: float | None = 1.0
    fails: bool = False
    hung_s: float = 0.0
    suspended_s: float = 0.0
    stalled_s: float = 0.0
    wall_step_s: float = 0.0


class Times(VirtualClock):
    """The clocks of a machine that can be suspended and whose wall clock can be set."""

    def __init__(self) -> None:
        self.slept = 0.0
        self.stepped = 0.0
        self.monotonic_at: dict[int, float] = {}  # by wall time, in ns

    def slept_s(self) -> float:
        return self.slept

    def wall_ns(self) -> int:
        wall = super().wall_ns() + round((self.slept + self.stepped) * 1e9)
        self.monotonic_at[wall] = self.monotonic()
        return wall

    def stall(self, seconds: float) -> None:
        """Let time pass without the loop, as when the process is stopped."""
        cast(Any, asyncio.get_running_loop())._virtual.now += seconds


class Inline:
    """Stands for a thread: samples in the event loop."""

    def __init__(self, done: Done) -> None:
        self.collectors: dict[str, Collector] = {}
        self.asked: set[str] = set()
        self.done = done

    def ask(self, collectors: Sequence[Collector]) -> None:
        for collector in collectors:
            result: Reading | Exception
            try:
                result = collector.sample()
            except CollectorError as error:
                result = error
            self.done(collector, Outcome(result, 0.0, 0.0))

    def deliver(self) -> None:
        """All is delivered."""

    def close(self) -> None:
        """Nothing runs."""

    def ended(self) -> bool:
        return True


class Scripted(Collector):
    """Plays the steps, one each sample; brings the time it was asked at as a value, too."""

    name = "scripted"

    def __init__(self, steps: list[Step], clock: Times) -> None:
        super().__init__(Context(CollectorSettings()))
        # The very first sample only primes rates.
        self.steps: Iterator[Step] = iter([Step(), *steps])
        self.clock = clock
        self.cuts = 0
        self.taken: list[dict[str, float]] = []
        self.ended = asyncio.Event()

    def sample(self) -> Reading:
        step = next(self.steps, None)
        if step is None:
            self.ended.set()
            raise CollectorError("the script is over")
        now = self.clock.monotonic()
        values = {"at": now, "cuts": float(self.cuts)}
        if step.value is not None:
            values["value"] = step.value
        self.clock.stall(step.hung_s)
        if step.suspended_s or step.stalled_s or step.wall_step_s:
            asyncio.get_running_loop().call_later(AFTER_S, self.cut, step)
        if step.fails:
            raise CollectorError("this time not")
        self.taken.append(values)
        return Reading(values, runs={RUN: values})

    def cut(self, step: Step) -> None:
        self.clock.slept += step.suspended_s
        self.clock.stepped += step.wall_step_s
        self.clock.stall(step.stalled_s)
        self.cuts += step.suspended_s > GAP_S or step.stalled_s > GAP_S + INTERVAL_S


@dataclass
class Played:
    """What came of a script."""

    taken: list[dict[str, float]]  #: samples of which windows were made
    windows: list[Sample]
    run_windows: list[Sample]
    ends: list[float]  #: of the windows, monotonic
    run_ends: list[float]
    elapsed_s: float


def _drop(*_: object) -> Any:
    raise structlog.DropEvent


def play(steps: list[Step]) -> Played:
    async def work() -> Played:
        clock = Times()
        collector = Scripted(steps, clock)
        written: list[Sample] = []

        def write(kind: int, body: bytes) -> None:
            if kind == kinds.SAMPLE:
                written.append(decode_sample(body))

        sampler = Sampler(
            [collector],
            {},
            write,
            clock,
            structlog.wrap_logger(None, processors=[_drop]),
            INTERVAL_S,
            WINDOW_S,
            lambda key: RunStream(key, write),
            cast(Callable[[Done], CollectorThread], Inline),
        )
        began = clock.monotonic()
        task = asyncio.create_task(sampler.run())
        await collector.ended.wait()
        await sampler.stop()
        await task
        windows = [sample for sample in written if sample.about is None]
        runs = [sample for sample in written if sample.about == RUN]
        assert len(windows) + len(runs) == len(written)
        return Played(
            collector.taken[1:],
            windows,
            runs,
            [clock.monotonic_at[window.time] for window in windows],
            [clock.monotonic_at[window.time] for window in runs],
            clock.monotonic() - began,
        )

    return run_virtually(work())


MOSTLY_NONE = st.one_of(st.just(0.0), st.just(0.0), st.just(0.0), st.floats(0, 100_000))
STEPS = st.builds(
    Step,
    value=st.one_of(st.none(), st.floats(-1e9, 1e9)),
    fails=st.sampled_from([False, False, False, True]),
    suspended_s=MOSTLY_NONE,
    hung_s=MOSTLY_NONE,
    stalled_s=MOSTLY_NONE,
    wall_step_s=st.one_of(st.just(0.0), st.just(0.0), st.floats(-100_000, 100_000)),
)
SCRIPTS = st.lists(STEPS, min_size=1, max_size=40)


def check_against_model(taken: list[dict[str, float]], windows: list[Sample], ends: list[float]) -> None:
    """Every sample is in one window, in order, and the windows say of them what a naive model says."""
    left = list(taken)
    for window, end in zip(windows, ends, strict=True):
        count = window.values["at"][4]
        chunk, left = left[:count], left[count:]
        began = end - window.window / 1e9
        for sample in chunk:
            assert began - 1e-6 <= sample["at"] <= end + 1e-6
        values = [sample["value"] for sample in chunk if "value" in sample]
        assert ("value" in window.values) == bool(values)
        if values:
            mean, low, high, last, number = window.values["value"]
            assert (low, high, last, number) == (min(values), max(values), values[-1], len(values))
            exact = math.fsum(values) / len(values)
            assert math.isclose(mean, exact, rel_tol=1e-9, abs_tol=1e-9 * max(map(abs, values)))
        # Nothing from before a suspend or a stall is in one window with what came after.
        assert window.values["cuts"][1] == window.values["cuts"][2]
    assert left == []


@settings(deadline=None, max_examples=60)
@given(SCRIPTS)
def test_windows_are_what_a_naive_model_says(steps: list[Step]) -> None:
    played = play(steps)

    check_against_model(played.taken, played.windows, played.ends)
    check_against_model(played.taken, played.run_windows, played.run_ends)


@settings(deadline=None, max_examples=60)
@given(SCRIPTS)
def test_windows_are_as_long_as_they_say_and_do_not_overlap(steps: list[Step]) -> None:
    played = play(steps)

    for windows, ends in ((played.windows, played.ends), (played.run_windows, played.run_ends)):
        before = -math.inf
        for window, end in zip(windows, ends, strict=True):
            began = end - window.window / 1e9
            assert began >= before - 1e-6
            before = end
    long = [window for window in played.windows if window.window > (WINDOW_S + INTERVAL_S) * 1e9]
    assert len(long) <= sum((step.stalled_s > GAP_S) + (step.hung_s > GAP_S) for step in steps)


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 40))
def test_windows_of_a_calm_host_follow_each_other_without_a_hole(count: int) -> None:
    played = play([Step(value=float(number)) for number in range(count)])

    assert played.windows[0].values["at"][4] == 1
    assert played.windows[0].window == round(FIRST_INTERVAL_S * 1e9)
    for window, end, following in zip(
        played.windows[1:], played.ends[1:], [*played.ends[2:], math.inf], strict=False
    ):
        if following < math.inf:
            assert window.window == round(WINDOW_S * 1e9)
            assert window.values["at"][4] == WINDOW_S / INTERVAL_S
        assert end <= following


def test_window_ends_where_the_machine_was_last_seen_before_it_was_suspended() -> None:
    steps = [Step(), Step(), Step(suspended_s=3600), Step(), Step()]

    played = play(steps)

    first, until_suspend, after = played.windows
    assert (first.values["at"][4], until_suspend.values["at"][4], after.values["at"][4]) == (1, 2, 2)
    assert until_suspend.window == 2 * INTERVAL_S * 1e9
    # An hour of wall time lies between the two, and belongs to neither.
    assert after.time - after.window - until_suspend.time == (3600 + INTERVAL_S) * 1e9


@pytest.mark.parametrize("stall_s", [7, 600])
def test_samples_after_a_stall_get_a_window_that_is_as_long_as_it(stall_s: float) -> None:
    steps = [Step(), Step(), Step(stalled_s=stall_s), Step(), Step(), Step(), Step()]

    played = play(steps)

    lengths = [round(window.window / 1e9) for window in played.windows]
    counts = [window.values["at"][4] for window in played.windows]
    # The one at the start; up to the stall; the stall and the sample whose rates are about it; the rest.
    assert counts == [1, 2, 1, 3]
    assert lengths[2] in (stall_s, stall_s + 1)
    assert lengths[3] <= WINDOW_S


def test_wall_clock_that_is_set_back_leaves_lengths_alone() -> None:
    steps = [Step(), *[Step() for _ in range(4)], Step(wall_step_s=-7200), *[Step() for _ in range(10)]]

    played = play(steps)

    assert [round(window.window / 1e9) for window in played.windows[1:3]] == [WINDOW_S, WINDOW_S]
    assert played.windows[2].time < played.windows[1].time
