"""What agents tell of runs' processes and of what happened to machines: believed, bounded, kept once."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest

from tests.support.stores import Committer, add_principal, failing_at
from tests.support.streams import START, StreamBytes
from tracker.protocol import bodies, kinds
from tracker_server.ingest import records, writer
from tracker_server.ingest.commit import HostEventNews, HostNews
from tracker_server.ingest.machine_records import AHEAD_MAX_NS
from tracker_server.ingest.position import TooLargeError
from tracker_server.store import host_events, writer_samples
from tracker_server.store.errors import NotFound
from tracker_server.store.host_events import HostEvent
from tracker_server.store.store import Store

WINDOW = (4.0, 1.0, 9.0, 5.0, 15)
MACHINE = "m" * 32


@pytest.fixture
def alice(store: Store) -> Committer:
    return Committer(store, add_principal(store))


@pytest.fixture
def agent(store: Store, alice: Committer) -> Committer:
    """Return who ships for a whole machine: a service account."""
    return Committer(store, add_principal(store, "agents", kind="service"))


def host() -> StreamBytes:
    return StreamBytes(run=None)


def sampled(committer: Committer, run: str = "run1") -> dict[str, list[float]]:
    """Return the last values of the windows of each metric of a run's processes."""
    store, found = committer.store, committer.detail(run).run
    names = [metric.name for metric in store.writer_samples.metrics(found.id)]
    _, series = store.writer_samples.series(found.id, names)
    assert list(series) == names
    return {name: each.last.tolist() for name, each in series.items()}


def events(committer: Committer, **query: Any) -> list[HostEvent]:
    store = committer.store
    found = store.hosts.get(committer.principal.entity_id, MACHINE)
    return store.host_events.list(found.id, **query)[0]


def problems(committer: Committer, stream: StreamBytes) -> dict[str, int]:
    """Return what was counted about a stream."""
    with committer.store.read() as connection:
        rows = connection.exec_driver_sql(
            "SELECT reason, problems.count FROM problems JOIN streams ON streams.id = stream_id"
            " WHERE stream = ?",
            (stream.stream,),
        )
        return {row[0]: row[1] for row in rows}


# --- samples about writers ---


def test_a_window_about_a_writer_is_a_series_of_its_run(alice: Committer) -> None:
    first, second, own = StreamBytes(), StreamBytes(), host()
    own.sample({"process.cpu.percent": WINDOW, "process.memory.rss.bytes": (1.0, 1.0, 1.0, 1.0, 15)}, second)
    own.sample({"process.cpu.percent": (7.0, 7.0, 7.0, 7.0, 15)}, second)
    own.sample({"process.cpu.percent": WINDOW}, first)
    alice.send(first, second, own)

    run = alice.detail().run
    _, series = alice.store.writer_samples.series(run.id, ["system.1.process.cpu.percent"])

    (found,) = series.values()
    assert (found.min.tolist(), found.max.tolist(), found.mean.tolist()) == (
        [1.0, 7.0],
        [9.0, 7.0],
        [4.0, 7.0],
    )
    assert found.count.tolist() == [15, 15]
    assert sampled(alice) == {
        "system.0.process.cpu.percent": [5.0],
        "system.1.process.cpu.percent": [5.0, 7.0],
        "system.1.process.memory.rss.bytes": [1.0],
    }


def test_samples_of_processes_are_no_metrics_of_the_run_nor_of_the_host(alice: Committer) -> None:
    run, own = StreamBytes(), host()
    run.log({"loss": 1.0})
    own.sample({"host.cpu.percent": WINDOW})
    own.sample({"process.cpu.percent": WINDOW}, run)
    alice.send(run, own)

    detail = alice.detail()
    machine = alice.store.hosts.get(alice.principal.entity_id, MACHINE)

    assert (detail.run.steps, detail.run.points, detail.run.metrics, detail.run.cursor) == (0, 1, 1, 1)
    assert detail.summary == {"loss": 1.0}
    assert [metric.name for metric in alice.store.hosts.metrics(machine)] == ["host.cpu.percent"]


def test_windows_about_a_writer_that_has_not_arrived_wait_for_it(alice: Committer) -> None:
    run, own = StreamBytes(), host()
    own.sample({"cpu": WINDOW}, run)
    alice.send(own)
    own.sample({"cpu": WINDOW}, run)
    alice.send(own)

    alice.send(run)

    assert sampled(alice) == {"system.0.cpu": [5.0, 5.0]}


def test_the_same_request_twice_keeps_each_window_and_event_once(alice: Committer) -> None:
    run, own = StreamBytes(), host()
    own.sample({"cpu": WINDOW}, run)
    own.alert("Xid 79")
    entries = (alice.lines(run), alice.lines(own))

    alice.commit(*entries)
    alice.commit(*entries)

    assert sampled(alice) == {"system.0.cpu": [5.0]}
    assert [event.title for event in events(alice)] == ["Xid 79"]


def test_a_failing_statement_anywhere_keeps_nothing_and_a_retry_keeps_all(alice: Committer) -> None:
    run, own = StreamBytes(), host()
    own.sample({"cpu": WINDOW}, run)
    own.alert("Xid 79")
    entries = (alice.lines(run), alice.lines(own))
    number = 0
    while True:
        number += 1
        try:
            with failing_at(number, alice.store.database._writer):
                alice.commit(*entries)
            break
        except ZeroDivisionError:
            with pytest.raises(NotFound):
                alice.detail()

    assert number > 10
    assert sampled(alice) == {"system.0.cpu": [5.0]}
    assert len(events(alice)) == 1


def test_nobody_but_its_principal_and_the_agent_of_all_speaks_of_a_writer(
    alice: Committer, agent: Committer
) -> None:
    mallory = Committer(alice.store, add_principal(alice.store, "mallory"))
    run, forged, honest = StreamBytes(), host(), host()
    alice.send(run)
    forged.sample({"cpu": (0.0, 0.0, 0.0, 0.0, 1)}, run)
    honest.sample({"cpu": WINDOW}, run)

    mallory.send(forged)
    agent.send(honest)

    assert sampled(alice) == {"system.0.cpu": [5.0]}
    assert problems(mallory, forged) == {"SAMPLE about a stream of another principal": 1}
    assert problems(agent, honest) == {}


def test_a_stranger_who_was_first_to_speak_of_a_writer_is_not_shown(alice: Committer) -> None:
    mallory = Committer(alice.store, add_principal(alice.store, "mallory"))
    run, forged = StreamBytes(), host()
    forged.sample({"cpu": WINDOW}, run)
    mallory.send(forged)

    alice.send(run)

    assert sampled(alice) == {}


def test_the_agent_of_all_counts_more_than_the_principal_itself(alice: Committer, agent: Committer) -> None:
    run, own, of_all = StreamBytes(), host(), host()
    of_all.sample({"cpu": (2.0, 2.0, 2.0, 2.0, 1)}, run)
    own.sample({"cpu": WINDOW}, run)

    agent.send(of_all)
    alice.send(run, own)

    assert sampled(alice) == {"system.0.cpu": [2.0]}


def test_samples_about_the_same_stream_id_of_another_user_are_another_writers(alice: Committer) -> None:
    run, own = StreamBytes(), host()
    own.sample({"cpu": WINDOW}, run, uid=1001)

    alice.send(run, own)

    assert sampled(alice) == {}


def test_samples_about_the_stream_of_a_host_are_counted(alice: Committer) -> None:
    own, other = host(), host()
    alice.send(other)
    own.sample({"cpu": WINDOW}, other)

    alice.send(own)

    assert problems(alice, own) == {"SAMPLE about a stream of a host": 1}


def test_only_so_many_streams_that_never_arrive_have_samples(
    alice: Committer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_samples, "UNKNOWN_MAX", 3)
    run, own = StreamBytes(), host()
    own.sample({"cpu": WINDOW}, run)
    alice.send(run, own)
    ghosts = [StreamBytes() for _ in range(5)]
    for ghost in ghosts[:2]:
        own.sample({"cpu": WINDOW}, ghost)
    alice.send(own)
    for ghost in [*ghosts, run]:
        own.sample({"cpu": WINDOW}, ghost)
        own.sample({"cpu": WINDOW}, ghost)

    alice.send(own)

    assert problems(alice, own) == {"SAMPLE about streams that have not arrived, too many of them": 4}
    assert sampled(alice) == {"system.0.cpu": [5.0, 5.0, 5.0]}
    with alice.store.read() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM writer_samples").scalar_one() == 4


def test_samples_of_more_writers_than_one_request_may_hold_are_asked_for_in_parts(
    alice: Committer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "SAMPLED_WRITERS_MAX", 3)
    run, own, others = StreamBytes(), host(), host()
    alice.send(run, own, others)
    own.sample({"cpu": WINDOW}, run)
    for _ in range(2):
        others.sample({"cpu": WINDOW}, StreamBytes())
    half = others.end
    others.sample({"cpu": WINDOW}, StreamBytes())
    all_at_once = [alice.lines(own), alice.lines(others)]

    with pytest.raises(TooLargeError, match="more than 3 writers' processes"):
        alice.commit(*all_at_once)

    assert sampled(alice) == {}
    alice.commit(all_at_once[0], alice.part(others, all_at_once[1].offset, half))
    alice.commit(alice.part(others, half, others.end))
    assert sampled(alice) == {"system.0.cpu": [5.0]}
    assert problems(alice, others) == {}


def test_metrics_beyond_the_limit_of_a_window_are_counted(
    alice: Committer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "HOST_METRICS_MAX", 4)
    monkeypatch.setattr(records, "WRITER_METRICS_MAX", 3)
    run, own = StreamBytes(), host()
    many = {f"m{number}": WINDOW for number in range(10)}
    own.sample(many)
    own.sample(many, run)

    alice.send(run, own)

    machine = alice.store.hosts.get(alice.principal.entity_id, MACHINE)
    assert [metric.name for metric in alice.store.hosts.metrics(machine)] == ["m0", "m1", "m2", "m3"]
    assert list(sampled(alice)) == ["system.0.m0", "system.0.m1", "system.0.m2"]
    assert problems(alice, own) == {
        "SAMPLE: metrics beyond the first 4 of a host": 6,
        "SAMPLE: metrics beyond the first 3 of a process": 7,
    }


@pytest.mark.parametrize(
    "values",
    [
        {"a" * 600: [1, 1, 1, 1, 1]},
        {"a\x00": [1, 1, 1, 1, 1], "a\\x00": [1, 1, 1, 1, 1]},
        {"a": [1, 1]},
        {"a": "text"},
        {b"a": [1, 1, 1, 1, 1]},
    ],
)
def test_a_bad_window_about_a_writer_costs_only_itself(alice: Committer, values: dict[Any, Any]) -> None:
    run, own = StreamBytes(), host()
    about = [1000, run.stream]
    own.add(kinds.SAMPLE, msgpack.packb([START, 1, values, about]))
    own.sample({"cpu": WINDOW}, run)

    alice.send(run, own)

    assert sampled(alice) == {"system.0.cpu": [5.0]}
    assert list(problems(alice, own).values()) == [1]


def test_an_empty_window_about_a_writer_is_harmless(alice: Committer) -> None:
    run, own = StreamBytes(), host()
    own.sample({}, run)

    assert [outcome.error for outcome in alice.send(run, own)] == [None, None]

    assert sampled(alice) == {}


@pytest.mark.parametrize(
    "name",
    ["cpu", "system.0", "system.", "system.00.cpu", "system.-1.cpu", "system.9.cpu", "system.0.none", "\x1f"],
)
def test_names_that_are_none_are_left_out_of_the_answer(alice: Committer, name: str) -> None:
    run, own = StreamBytes(), host()
    own.sample({"cpu": WINDOW}, run)
    alice.send(run, own)

    _, series = alice.store.writer_samples.series(alice.detail().run.id, [name])

    assert series == {}


def test_a_resumed_run_keeps_the_samples_of_each_of_its_writers(alice: Committer) -> None:
    first, own = StreamBytes(), host()
    own.sample({"cpu": WINDOW}, first)
    first.exit(1)
    alice.send(first, own)
    second = StreamBytes()
    own.sample({"cpu": (1.0, 1.0, 1.0, 1.0, 1)}, second)

    alice.send(second, own)

    assert sampled(alice) == {"system.0.cpu": [5.0], "system.1.cpu": [1.0]}


def test_of_two_windows_of_one_moment_that_of_the_later_agent_is_the_last(alice: Committer) -> None:
    run, before, after = StreamBytes(), host(), host()
    before.alert("so that its window lies further back in the stream", time=START)
    before.sample({"cpu": (1.0, 1.0, 1.0, 1.0, 1)}, run)
    after.sample({"cpu": (2.0, 2.0, 2.0, 2.0, 1)}, run)

    alice.send(run, before)
    alice.send(after)

    assert sampled(alice) == {"system.0.cpu": [1.0, 2.0]}


# --- events of hosts ---


def test_an_alert_of_the_agent_itself_is_an_event_of_its_host(alice: Committer) -> None:
    own = host()
    own.alert("Xid 79", time=START + 5, xid=79, gpu="GPU-0")

    alice.send(own)

    expected = HostEvent(START + 5, "error", "Xid 79", "text of Xid 79", {"xid": 79, "gpu": "GPU-0"})
    assert events(alice) == [expected]
    assert problems(alice, own) == {}


def test_an_alert_of_a_run_is_kept_with_the_run_as_before(alice: Committer) -> None:
    run = StreamBytes()
    at = run.alert("slow", "warn")

    alice.send(run)

    with alice.store.read() as connection:
        rows = connection.exec_driver_sql('SELECT "offset", kind FROM raw_records').all()
    assert [tuple(row) for row in rows] == [(at, kinds.ALERT)]
    assert alice.store.hosts.list(alice.principal.entity_id) == []


def test_events_come_newest_first_by_window_level_and_number(alice: Committer) -> None:
    own = host()
    for number, level in enumerate(("info", "warn", "error", "info", "strange")):
        own.alert(str(number), level, time=START + number)
    alice.send(own)

    def titles(**query: Any) -> list[str]:
        return [event.title for event in events(alice, **query)]

    assert titles() == ["4", "3", "2", "1", "0"]
    assert titles(limit=2) == ["4", "3"]
    assert titles(start=START + 1, end=START + 3) == ["3", "2", "1"]
    assert titles(level="warn") == ["2", "1"]
    assert titles(level="error") == ["2"]
    assert titles(level="info", limit=1) == ["4"]
    assert events(alice)[0].level == "info"


def test_a_host_keeps_its_newest_events(alice: Committer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_events, "EVENTS_MAX", 4)
    own, other = host(), StreamBytes(run=None, machine="o" * 32)
    other.alert("elsewhere")
    for number in range(3):
        own.alert(str(number))
    alice.send(other, own)
    for number in range(3, 12):
        own.alert(str(number))

    alice.send(own)

    assert [event.title for event in events(alice)] == ["11", "10", "9", "8"]
    elsewhere = alice.store.hosts.get(alice.principal.entity_id, "o" * 32)
    assert len(alice.store.host_events.list(elsewhere.id)[0]) == 1


def test_whoever_does_not_report_on_a_host_adds_no_events_to_it(alice: Committer) -> None:
    mallory = Committer(alice.store, add_principal(alice.store, "mallory"))
    own, forged = host(), host()
    own.alert("true")
    alice.send(own)
    forged.alert("forged")

    mallory.send(forged)

    assert [event.title for event in events(alice)] == ["true"]
    assert list(problems(mallory, forged).values()) == [1]


@pytest.mark.parametrize("time", [-1, -(2**63), 2**63 - 1, START + AHEAD_MAX_NS + 10**9])
def test_an_event_at_an_impossible_time_gets_that_of_its_arrival(alice: Committer, time: int) -> None:
    own = host()
    own.alert("when", time=time)

    alice.send(own)

    (event,) = events(alice)
    assert event.time == START
    assert list(problems(alice, own).values()) == [1]


def test_an_event_is_cut_to_what_a_person_reads(alice: Committer) -> None:
    own = host()
    body = bodies.Alert(START, "t" * 10**5 + "\x00", "\ud800" * 10**5, "e" * 10**5, {"x": "y" * 10**5})
    own.add(kinds.ALERT, body.encode())
    nested: Any = 1
    for _ in range(80):
        nested = [nested]
    own.add(kinds.ALERT, bodies.Alert(START, "deep", "", "info", {"x": nested}).encode())

    alice.send(own)

    (event,) = events(alice)
    assert (len(event.title), len(event.text), event.level, event.facts) == (256, 4096, "info", {})
    assert sorted(problems(alice, own)) == [
        "ALERT: facts of more than 4096 characters, left out",
        "ALERT: nested more than 64 deep",
    ]


def test_news_tell_samples_of_processes_and_events(alice: Committer) -> None:
    run, own = StreamBytes(), host()
    alice.send(run)
    own.sample({"cpu": WINDOW}, run)
    first = alice.commit(alice.lines(own)).news
    own.alert("Xid 79")

    second = alice.commit(alice.lines(own)).news

    assert first == [HostNews("default", MACHINE)]
    assert second == [HostEventNews("default", MACHINE)]


def test_old_events_and_samples_are_there_after_a_fold_and_a_restart(alice: Committer) -> None:
    run, own = StreamBytes(), host()
    for _ in range(3):
        own.sample({"cpu": WINDOW}, run)
        alice.send(run, own)

    with alice.store.read() as connection:
        points_id = connection.exec_driver_sql("SELECT points_id FROM writer_samples").scalar_one()
    alice.store.fold_all(points_id)

    assert sampled(alice) == {"system.0.cpu": [5.0, 5.0, 5.0]}
