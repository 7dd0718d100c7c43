"""The sampler with collectors that behave, hang, fail and come back."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest
import structlog

from tracker.protocol import kinds
from tracker.protocol.bodies import Alert, Host, Sample, decode_alert, decode_host, decode_sample
from tracker_agent.clock import Clock
from tracker_agent.collectors.collector import Collector, CollectorError, Context, Event, NothingHere, Reading
from tracker_agent.host_records import RunStream
from tracker_agent.sampler import Sampler
from tracker_agent.settings import CollectorSettings
from tracker_agent.streams import StreamKey

RUN: StreamKey = (1000, bytes(16))
ABOUT = (1000, bytes(range(16)))


class Played(Collector):
    """A collector that does what a test says."""

    def __init__(
        self, name: str, play: Callable[[], Reading], interval_s: float = 0.0, deadline_s: float = 10.0
    ) -> None:
        super().__init__(Context(CollectorSettings(interval_s=interval_s)))
        # Each one of this class is another collector.
        self.name = name  # type: ignore[misc]
        self.deadline_s = deadline_s  # type: ignore[misc]
        self.play = play
        self.closed = threading.Event()

    def sample(self) -> Reading:
        return self.play()

    def close(self) -> None:
        self.closed.set()


class Written:
    """The own stream: keeps what was written, or refuses as a full disk does."""

    def __init__(self) -> None:
        self.records: list[Sample | Host | Alert] = []
        self.full = False

    def __call__(self, kind: int, body: bytes) -> None:
        if self.full:
            raise OSError(28, "No space left on device")
        decoders: dict[int, Callable[[bytes], Sample | Host | Alert]] = {
            kinds.SAMPLE: decode_sample,
            kinds.HOST: decode_host,
            kinds.ALERT: decode_alert,
        }
        self.records.append(decoders[kind](body))

    @property
    def alerts(self) -> list[Alert]:
        return [record for record in self.records if isinstance(record, Alert)]

    @property
    def samples(self) -> list[Sample]:
        return [record for record in self.records if isinstance(record, Sample)]

    @property
    def hosts(self) -> list[Host]:
        return [record for record in self.records if isinstance(record, Host)]


async def until(condition: Callable[[], Any], what: str = "the condition") -> None:
    try:
        async with asyncio.timeout(20):
            while not condition():
                await asyncio.sleep(0.005)
    except TimeoutError:
        pytest.fail(f"{what} did not come true")


class Running:
    """A sampler under way."""

    def __init__(
        self,
        *collectors: Collector,
        interval_s: float = 0.02,
        window_s: float = 0.1,
        written: Written | None = None,
        run_stream: Callable[[StreamKey], RunStream | None] = lambda _: None,
    ) -> None:
        self.written = written or Written()
        self.sampler = Sampler(
            collectors,
            {"host": "h"},
            self.written,
            Clock(),
            structlog.get_logger(),
            interval_s,
            window_s,
            run_stream,
        )

    async def __aenter__(self) -> Running:
        self.task = asyncio.create_task(self.sampler.run())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.sampler.stop()
        await asyncio.wait_for(self.task, 10)

    def state(self, name: str) -> dict[str, Any]:
        state: dict[str, Any] = self.sampler.status()["collectors"][name]
        return state


def steady(name: str = "steady", value: float = 1.0) -> Played:
    return Played(name, lambda: Reading({f"host.{name}": value}))


async def test_first_window_has_one_sample_and_comes_at_once() -> None:
    async with Running(steady(), interval_s=3600, window_s=3600) as running:
        await until(lambda: running.written.samples)

        (sample,) = running.written.samples
        assert sample.values == {"host.steady": (1.0, 1.0, 1.0, 1.0, 1)}
        assert [host.inventory for host in running.written.hosts] == [{"host": "h"}]


async def test_windows_hold_the_samples_since_the_one_before() -> None:
    numbers = iter(range(1_000_000))
    counting = Played("counting", lambda: Reading({"n": float(next(numbers))}))

    async with Running(counting) as running:
        await until(lambda: len(running.written.samples) >= 4)

    windows = [sample.values["n"] for sample in running.written.samples]
    expected_low = 1.0  # the very first reading only primes rates
    for mean, low, high, last, count in windows:
        assert (low, high, last) == (expected_low, expected_low + count - 1, high)
        assert mean == pytest.approx((low + high) / 2)
        expected_low = high + 1


async def test_open_window_is_written_at_the_stop() -> None:
    steady_collector = steady()
    async with Running(steady_collector, window_s=3600) as running:
        await until(lambda: running.written.samples)
        first = running.state("steady")["samples"]
        await until(lambda: running.state("steady")["samples"] > first)

    assert len(running.written.samples) == 2
    assert steady_collector.closed.is_set()


async def test_hanging_collector_hangs_alone() -> None:
    release = threading.Event()
    hanging = Played("hanging", lambda: (release.wait(60), Reading({"late": 1.0}))[1])
    try:
        async with Running(hanging, steady()) as running:
            await until(lambda: len(running.written.samples) >= 3)

            assert all("host.steady" in sample.values for sample in running.written.samples)
            assert running.state("hanging")["skipped"] > 0
            release.set()
            await until(lambda: any("late" in sample.values for sample in running.written.samples))
    finally:
        release.set()


async def test_failing_collector_is_logged_once_and_heals() -> None:
    broken = True

    def play() -> Reading:
        if broken:
            raise CollectorError("the sensor is gone")
        return Reading({"healed": 1.0})

    with structlog.testing.capture_logs() as logs:
        async with Running(Played("broken", play), steady()) as running:
            await until(lambda: running.state("broken")["failures"] >= 5)
            assert running.state("broken")["state"] == "failing"
            assert running.state("broken")["reason"] == "the sensor is gone"
            broken = False
            await until(lambda: any("healed" in sample.values for sample in running.written.samples))

    failures = [log for log in logs if log["log_level"] == "warning"]
    assert [log["reason"] for log in failures] == ["the sensor is gone"]
    assert [log["event"] for log in logs if "again" in log["event"]] == ["collector works again"]


async def test_bug_in_a_collector_is_logged_with_its_traceback() -> None:
    def play() -> Reading:
        raise ZeroDivisionError("oops")

    with structlog.testing.capture_logs() as logs:
        async with Running(Played("buggy", play), steady()) as running:
            await until(lambda: len(running.written.samples) >= 2)

    (log,) = [log for log in logs if log["log_level"] == "warning"]
    assert isinstance(log["exc_info"], ZeroDivisionError)


async def test_nothing_here_is_no_failure() -> None:
    def play() -> Reading:
        raise NothingHere("no GPU")

    with structlog.testing.capture_logs() as logs:
        async with Running(Played("nvidia", play), steady()) as running:
            await until(lambda: len(running.written.samples) >= 2)

            assert running.state("nvidia")["state"] == "nothing here"
            assert running.state("nvidia")["failures"] == 0
    assert [log["log_level"] for log in logs] == ["info"]


async def test_inventory_is_sent_again_when_it_changes_and_only_then() -> None:
    facts = {"gpus": ["one"]}
    collector = Played("nvidia", lambda: Reading({"x": 1.0}, (), dict(facts)))

    async with Running(collector) as running:
        await until(lambda: len(running.written.samples) >= 3)
        assert [host.inventory for host in running.written.hosts] == [{"host": "h", "gpus": ["one"]}]
        facts["gpus"] = ["one", "two"]
        await until(lambda: len(running.written.hosts) == 2)

    assert running.written.hosts[1].inventory["gpus"] == ["one", "two"]


async def test_full_disk_loses_windows_with_a_count_and_sampling_goes_on() -> None:
    written = Written()
    written.full = True
    async with Running(steady(), written=written) as running:
        await until(lambda: running.sampler.status()["records_lost"] >= 3)
        written.full = False
        await until(lambda: len(written.samples) >= 2)

        assert written.hosts, "the inventory that could not be written before is written now"


async def test_slow_collector_is_asked_at_its_own_interval() -> None:
    slow = Played("slow", lambda: Reading({"slow": 1.0}), interval_s=3600)

    async with Running(slow, steady()) as running:
        await until(lambda: running.state("steady")["samples"] >= 10)

        # Twice at the start, since rates need two.
        assert running.state("slow")["samples"] == 2
        assert (running.state("slow")["interval_s"], running.state("steady")["interval_s"]) == (3600, 0.02)


async def test_collector_is_never_asked_more_often_than_the_sampler_samples() -> None:
    eager = Played("eager", lambda: Reading({"eager": 1.0}), interval_s=0.001)

    async with Running(eager) as running:
        assert running.state("eager")["interval_s"] == 0.02


async def test_collector_without_an_answer_is_stuck_after_its_deadline_and_its_values_are_gone() -> None:
    release = threading.Event()
    hang = False

    def play() -> Reading:
        if hang:
            release.wait(60)
        return Reading({"hung": 1.0})

    with structlog.testing.capture_logs() as logs:
        try:
            async with Running(Played("hanging", play, deadline_s=0.05), steady()) as running:
                await until(lambda: "hung" in running.sampler.latest())
                hang = True
                await until(lambda: running.state("hanging")["state"] == "stuck")
                await until(lambda: "hung" not in running.sampler.latest())

                assert "no answer" in running.state("hanging")["reason"]
                assert set(running.sampler.last_readings()) == {"steady"}
                assert running.state("steady")["state"] == "ok"
                hang = False
                release.set()
                await until(lambda: "hung" in running.sampler.latest())
                assert running.state("hanging")["state"] == "ok"
        finally:
            release.set()

    assert [log["event"] for log in logs if log.get("collector") == "hanging"] == [
        "collector stuck",
        "collector works again",
    ]


async def test_values_of_a_collector_that_fails_are_no_longer_the_latest() -> None:
    broken = False

    def play() -> Reading:
        if broken:
            raise CollectorError("gone")
        return Reading({"value": 1.0})

    async with Running(Played("breaking", play)) as running:
        await until(lambda: running.sampler.latest() == {"value": 1.0})
        broken = True
        await until(lambda: running.sampler.latest() == {})

        assert running.sampler.last_readings() == {}


def event(title: str = "Xid 79", time: int = 5) -> Event:
    return Event(time, title, "GPU 3 has fallen off the bus", "error", {"xid": 79})


async def test_event_is_written_at_once_and_its_repetitions_are_counted() -> None:
    telling = Played("telling", lambda: Reading({"x": 1.0}, events=(event(),)))

    async with Running(telling, window_s=3600) as running:
        await until(lambda: running.state("telling")["samples"] >= 5)

        title, text, level, facts = "Xid 79", "GPU 3 has fallen off the bus", "error", {"xid": 79}
        assert running.written.alerts == [Alert(5, title, text, level, facts)]
        alerts = running.sampler.status()["alerts"]
        assert (alerts["written"], alerts["repeated"] >= 4, alerts["left_out"]) == (1, True, 0)
        assert running.sampler.recent_events[0] == event()


async def test_values_of_a_run_go_to_where_the_run_goes() -> None:
    numbers = iter(range(1_000_000))
    own = Written()
    mine = Played("processes", lambda: Reading({}, runs={RUN: {"rss": float(next(numbers))}}))

    def where(key: StreamKey) -> RunStream | None:
        return RunStream(ABOUT, own) if key == RUN else None

    async with Running(mine, run_stream=where) as running:
        await until(lambda: len(own.samples) >= 3)

    assert {sample.about for sample in own.samples} == {ABOUT}
    first, *others = (sample.values["rss"] for sample in own.samples)
    assert first == (1.0, 1.0, 1.0, 1.0, 1)
    expected_low = 2.0
    for _, low, high, _, count in others:
        assert (low, high) == (expected_low, expected_low + count - 1)
        expected_low = high + 1
    assert running.written.samples == []


async def test_first_window_of_a_run_that_starts_does_not_wait_for_the_machines() -> None:
    runs: dict[StreamKey, dict[str, float]] = {}
    own = Written()
    mine = Played("processes", lambda: Reading({"x": 1.0}, runs=dict(runs)))

    async with Running(mine, window_s=3600, run_stream=lambda _: RunStream(ABOUT, own)) as running:
        await until(lambda: running.written.samples)
        runs[RUN] = {"rss": 7.0}
        await until(lambda: own.samples)

        assert own.samples[0].values == {"rss": (7.0, 7.0, 7.0, 7.0, 1)}
        assert len(running.written.samples) == 1


async def test_values_of_a_run_that_goes_nowhere_are_counted() -> None:
    mine = Played("processes", lambda: Reading({}, runs={RUN: {"rss": 1.0}}))

    async with Running(mine) as running:
        await until(lambda: running.sampler.status()["runs_unshipped"] >= 2)

        assert running.written.samples == []


async def test_lists_that_two_collectors_bring_are_joined_in_the_inventory() -> None:
    one = Played("nvidia", lambda: Reading({}, inventory={"gpus": ["H100"], "cuda": 12}))
    two = Played("amd", lambda: Reading({}, inventory={"gpus": ["MI300X"]}))

    async with Running(one, two) as running:
        await until(lambda: running.written.hosts)

    assert running.written.hosts[0].inventory == {"host": "h", "gpus": ["H100", "MI300X"], "cuda": 12}
