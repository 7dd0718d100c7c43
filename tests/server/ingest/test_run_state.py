"""The state of a run, from what its writers wrote and what an agent saw of them."""

from __future__ import annotations

import pytest

from tests.support.stores import Committer, add_principal
from tests.support.streams import StreamBytes
from tracker_server.ingest.run_state import derive_run_state
from tracker_server.store.store import Store


@pytest.fixture
def alice(store: Store) -> Committer:
    return Committer(store, add_principal(store))


@pytest.fixture
def agent(store: Store, alice: Committer) -> Committer:
    return Committer(store, add_principal(store, "agent", kind="service"), uid=0)


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
