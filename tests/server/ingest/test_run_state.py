"""The state of a run, from what its writers wrote and what an agent saw of them."""

from __future__ import annotations

import pytest

from tests.support.stores import Committer, add_principal
from tests.support.streams import StreamBytes
from tracker_server.ingest.run_state import derive_run_state
from tracker_server.store import observed_rows, schema
from tracker_server.store.store import Store


@pytest.fixture
def alice(store: Store) -> Committer:
    return Committer(store, add_principal(store))


@pytest.fixture
def agent(store: Store, alice: Committer) -> Committer:
    return Committer(store, add_principal(store, "agent", kind="service"), uid=0)


def remembered(store: Store) -> list[bytes]:
    with store.read() as connection:
        return [row.stream for row in connection.execute(schema.observed.select())]


@pytest.mark.parametrize(
    ("streams", "state", "exit_code"),
    [
        ([("live", None, 1)], "running", None),
        ([("ended", 0, 1)], "finished", 0),
        ([("ended", 0, 1), ("ended", 3, 2)], "failed", 3),
        ([("gone", None, 1)], "crashed", None),
        ([("gone", None, 1), ("ended", 0, 2)], "crashed", None),
        ([("gone", None, 1), ("live", None, 2)], "running", None),
        ([("ended", 1, 1), ("live", None, 2)], "running", None),
    ],
)
def test_the_rules(streams: list[tuple[str, int | None, int]], state: str, exit_code: int | None) -> None:
    derived = derive_run_state(streams)

    assert (derived.state, derived.exit_code) == (state, exit_code)
    assert derived.finished == (None if state == "running" else max(since for _, _, since in streams))


def test_a_writer_that_exits_finishes_its_run(alice: Committer) -> None:
    stream = StreamBytes()
    stream.exit(0)

    alice.send(stream)

    assert (alice.detail().run.state, alice.detail().run.exit_code) == ("finished", 0)


def test_an_exception_is_kept_with_the_failure(alice: Committer) -> None:
    stream = StreamBytes()
    stream.exit(1, {"type": "ValueError", "message": "x", "traceback": "…"})

    alice.send(stream)

    assert alice.detail().run.state == "failed"
    assert alice.detail().streams[0].exception == {"type": "ValueError", "message": "x", "traceback": "…"}


def test_a_writer_seen_gone_has_crashed(alice: Committer, agent: Committer) -> None:
    stream, own = StreamBytes(), StreamBytes(run=None)
    alice.send(stream)
    own.observed(stream, "gone")

    agent.send(own)

    assert alice.detail().run.state == "crashed"
    assert alice.detail().streams[0].observed == {"pid": 1}


def test_exit_wins_over_gone_whichever_comes_first(alice: Committer, agent: Committer) -> None:
    early, late, own = StreamBytes(run="early"), StreamBytes(run="late"), StreamBytes(run=None)
    early.exit(0)
    alice.send(early, late)
    own.observed(early, "gone")
    own.observed(late, "gone")
    agent.send(own)
    late.exit(0)

    alice.send(late)

    assert alice.detail("early").run.state == "finished"
    assert alice.detail("late").run.state == "finished"


def test_a_writer_seen_before_its_records_arrive_is_remembered(alice: Committer, agent: Committer) -> None:
    stream, own = StreamBytes(), StreamBytes(run=None)
    own.observed(stream, "gone")
    agent.send(own)

    alice.send(stream)

    assert alice.detail().run.state == "crashed"


def test_the_last_thing_seen_of_a_writer_counts(alice: Committer, agent: Committer) -> None:
    stream, own = StreamBytes(), StreamBytes(run=None)
    own.observed(stream, "gone")
    other = Committer(alice.store, add_principal(alice.store, "agent-2", kind="service"), uid=0)
    other_own = StreamBytes(run=None)
    agent.send(own)
    other_own.clock = own.clock
    other_own.observed(stream, "live")
    other.send(other_own)

    alice.send(stream)

    assert alice.detail().run.state == "running"


def test_what_was_seen_of_a_writer_is_forgotten_once_it_has_arrived(
    alice: Committer, agent: Committer
) -> None:
    stream, own = StreamBytes(), StreamBytes(run=None)
    own.observed(stream, "gone")
    agent.send(own)

    alice.send(stream)

    assert remembered(alice.store) == []


def test_writers_that_never_arrive_are_forgotten_beyond_a_limit_and_counted(
    alice: Committer, agent: Committer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(observed_rows, "REMEMBERED_MAX", 3)
    early = StreamBytes()
    alice_own, own = StreamBytes(run=None), StreamBytes(run=None)
    alice_own.observed(early, "gone")
    alice.send(alice_own)
    streams = [StreamBytes(run="run-%d" % number) for number in range(5)]
    for stream in [*streams, streams[2]]:
        own.observed(stream, "gone")

    agent.send(own)

    kept = [streams[3], streams[4], streams[2]]
    assert remembered(alice.store) == [each.stream for each in [early, *kept]]
    with alice.store.read() as connection:
        problems = connection.execute(schema.problems.select()).all()
    assert [(row.reason, row[3]) for row in problems] == [
        ("OBSERVED of streams that never arrived, forgotten", 2)
    ]


def test_a_writer_seen_live_again_is_running(alice: Committer, agent: Committer) -> None:
    stream, own = StreamBytes(), StreamBytes(run=None)
    alice.send(stream)
    own.observed(stream, "gone")
    own.observed(stream, "live")

    agent.send(own)

    assert alice.detail().run.state == "running"


def test_a_run_is_running_while_any_rank_lives(alice: Committer) -> None:
    ranks = [StreamBytes(rank=rank) for rank in range(3)]
    alice.send(*ranks)
    ranks[0].exit(0)
    ranks[1].exit(0)
    alice.send(*ranks[:2])

    assert alice.detail().run.state == "running"

    ranks[2].exit(5)
    alice.send(ranks[2])
    assert (alice.detail().run.state, alice.detail().run.exit_code) == ("failed", 5)


def test_a_user_cannot_declare_another_users_run_dead(alice: Committer) -> None:
    mallory = Committer(alice.store, add_principal(alice.store, "mallory"))
    stream, early, claim = StreamBytes(), StreamBytes(run="early"), StreamBytes(run=None)
    alice.send(stream)
    claim.observed(stream, "gone")
    claim.observed(early, "gone")

    assert mallory.send(claim)[0].error is None
    alice.send(early)

    assert alice.detail().run.state == "running"
    assert alice.detail("early").run.state == "running"


def test_samples_of_a_claimed_host_go_to_the_agents_account(alice: Committer, agent: Committer) -> None:
    fake, real = StreamBytes(run=None), StreamBytes(run=None)
    fake.sample({"cpu": (99.0, 99.0, 99.0, 99.0, 1)})
    alice.send(fake)
    real.sample({"cpu": (2.0, 1.0, 3.0, 2.5, 15)})
    agent.send(real)
    fake.sample({"cpu": (98.0, 98.0, 98.0, 98.0, 1)})
    alice.send(fake)

    host = alice.store.hosts.get(alice.principal.entity_id, "m" * 32)
    _, series = alice.store.hosts.series(host, ["cpu"])

    assert list(series["cpu"].last) == [99.0, 2.5] or list(series["cpu"].last) == [2.5, 99.0]
    assert [metric.name for metric in alice.store.hosts.metrics(host)] == ["cpu"]
