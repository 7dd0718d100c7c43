"""The state of a run, from what its writers wrote and what an agent saw of them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.stores import Committer, add_principal
from tests.support.streams import StreamBytes
from tracker_server.ingest.run_cause import run_cause
from tracker_server.ingest.run_state import derive_run_state
from tracker_server.store import observed_rows, schema
from tracker_server.store.endings import Ending
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


def writer(
    number: int,
    state: str,
    code: int | None = None,
    *,
    since: int = 50,
    parent: int | None = None,
    **more: Any,
) -> Ending:
    """Return what is known of a writer that began at 10; its number is its stream's, too."""
    stream = bytes([number]) * 16
    of = None if parent is None else bytes([parent]) * 16
    return Ending(
        number,
        state,
        since,
        exit_code=code,
        stream=stream,
        parent=of,
        **{"started": 10, "pid": number, **more},
    )


def live(number: int, **more: Any) -> Ending:
    return writer(number, "live", since=more.get("started", 10), **more)


def gone(number: int, **more: Any) -> Ending:
    return writer(number, "gone", **more)


def ended(number: int, code: int = 0, **more: Any) -> Ending:
    return writer(number, "ended", code, **more)


REBOOT = {"cause": "reboot"}


@pytest.mark.parametrize("helper", [ended(2, parent=1, role="helper"), gone(2, parent=1, role="helper")])
def test_run_of_which_only_the_helper_is_known_runs_and_has_no_cause(helper: Ending) -> None:
    assert derive_run_state([helper]).state == "running"
    assert run_cause([helper]) is None


@pytest.mark.parametrize(
    ("writers", "state", "exit_code"),
    [
        ([live(1)], "running", None),
        ([ended(1)], "finished", 0),
        ([ended(1), ended(2, 3)], "failed", 3),
        ([gone(1)], "crashed", None),
        ([gone(1), ended(2)], "crashed", None),
        ([gone(1), live(2)], "running", None),
        ([ended(1, 1), live(2)], "running", None),
        # A child that vanishes says nothing, whichever way round they arrived.
        ([ended(1), gone(2, parent=1)], "finished", 0),
        ([gone(1, parent=2), ended(2)], "finished", 0),
        ([ended(1, 3), gone(2, parent=1)], "failed", 3),
        ([gone(1), gone(2, parent=1)], "crashed", None),
        ([gone(1), ended(2, parent=1)], "crashed", None),
        ([ended(1), gone(2, parent=1), gone(3, parent=2)], "finished", 0),
        ([ended(1), gone(2, parent=1), ended(3, parent=2)], "finished", 0),
        # It is heard while it lives, and when it says that it failed.
        ([ended(1), live(2, parent=1)], "running", None),
        ([ended(1), ended(2, 9, parent=1)], "failed", 9),
        # One whose parent is not in the run is alone.
        ([gone(2, parent=1)], "crashed", None),
        ([live(1), gone(2, parent=9)], "running", None),
        # A helper says nothing at all.
        ([ended(1), gone(2, parent=1, role="helper")], "finished", 0),
        ([ended(1), ended(2, 1, parent=1, role="helper")], "finished", 0),
        ([ended(1), live(2, parent=1, role="helper")], "finished", 0),
        ([gone(1), live(2, parent=1, role="helper")], "crashed", None),
        ([live(2, parent=1, role="helper")], "running", None),
        # Descriptors were closed under a writer, which went on in another stream, and in a third.
        ([gone(1), ended(2, parent=1, role="again")], "finished", 0),
        ([live(1), ended(2, 4, parent=1, role="again")], "failed", 4),
        ([gone(1), gone(2, parent=1, role="again")], "crashed", None),
        (
            [
                gone(1),
                gone(2, parent=1, role="again", started=11),
                ended(3, parent=2, role="again", started=12),
                gone(4, parent=3, started=13),
            ],
            "finished",
            0,
        ),
        ([ended(1), gone(2, parent=1), gone(3, parent=2, role="again")], "finished", 0),
        ([gone(1), ended(2, 1, parent=1, role="helper"), ended(3, parent=1, role="again")], "finished", 0),
        # A supervisor waits for the others; what it says at its end counts.
        ([ended(1), gone(2, role="supervisor")], "finished", 0),
        ([ended(1), live(2, role="supervisor")], "running", None),
        ([gone(1), ended(2, 137, role="supervisor")], "crashed", 137),
        ([ended(1), ended(2, 3, role="supervisor")], "failed", 3),
        ([gone(2, role="supervisor")], "crashed", None),
        ([gone(2, role="supervisor", since=20), ended(3, role="supervisor", started=30)], "finished", 0),
        # A command in passing neither mends nor breaks a run.
        ([gone(1), ended(2, role="aside", started=60, since=61)], "crashed", None),
        ([ended(1), gone(2, role="aside")], "finished", 0),
        ([ended(1), live(2, role="aside")], "finished", 0),
        ([ended(2, 1, role="aside", since=20), ended(3, role="aside", started=30)], "finished", 0),
        # A run that went on later is judged by its last attempt.
        ([gone(1), ended(2, started=60, since=70)], "finished", 0),
        ([ended(1, 143), ended(2, started=60, since=70)], "finished", 0),
        ([gone(1), ended(2, started=50, since=70)], "crashed", None),
        ([ended(1), gone(2, started=60, since=70)], "crashed", None),
        ([gone(1, rank=0), gone(2, rank=1), ended(3, rank=0, started=60, since=70)], "finished", 0),
        ([ended(1, 9), ended(2, 9, parent=1), ended(3, started=60, since=70)], "finished", 0),
        ([gone(1, observed={"died": 40}, since=90), ended(2, started=60, since=70)], "finished", 0),
        ([gone(1, observed=REBOOT, since=90), ended(2, started=60, since=70)], "finished", 0),
        # One rank was started anew while the others trained on.
        (
            [ended(1, rank=0, since=90), gone(2, rank=1), ended(3, rank=1, started=60, since=80)],
            "finished",
            0,
        ),
        (
            [ended(1, rank=0, since=90), gone(2, rank=1), ended(3, rank=2, started=60, since=80)],
            "crashed",
            None,
        ),
        ([ended(1, since=90), gone(2), ended(3, started=60, since=80)], "crashed", None),
        # Forged in a circle: nobody is nobody's parent.
        ([gone(1, parent=2), gone(2, parent=1)], "finished", None),
    ],
)
def test_the_rules(writers: list[Ending], state: str, exit_code: int | None) -> None:
    derived = derive_run_state(writers)

    assert (derived.state, derived.exit_code) == (state, exit_code)
    assert (derived.finished is None) == (state == "running" or (state, exit_code) == ("finished", None))


def test_a_run_ended_when_the_last_of_those_that_decide_did() -> None:
    derived = derive_run_state([gone(1, since=40), ended(2, since=30), live(3, parent=1, role="helper")])

    assert derived.finished == 40


def test_a_writer_that_does_not_decide_is_no_cause() -> None:
    killed = {"cause": "killed by SIGTERM"}

    assert run_cause([ended(1), gone(2, parent=1, observed=killed)]) is None
    assert run_cause([ended(1, 3), gone(2, parent=1, observed=killed, since=20)]) == "exit code 3"
    assert run_cause(
        [gone(1, observed={"cause": "killed by SIGKILL"}), live(2, parent=1, role="helper")]
    ) == ("killed by SIGKILL")
    assert run_cause([gone(1, observed=killed), ended(2, started=60, since=70)]) is None


def test_many_ranks_are_judged_in_a_moment() -> None:
    ranks = [
        Ending(rank, "ended", 100, exit_code=0, stream=rank.to_bytes(16, "big"), rank=rank, started=10)
        for rank in range(20_000)
    ]

    assert derive_run_state(ranks).state == "finished"


def test_a_worker_that_is_terminated_leaves_its_run_finished(alice: Committer, agent: Committer) -> None:
    parent, own = StreamBytes(b"p" * 16), StreamBytes(run=None)
    child = StreamBytes(b"c" * 16, parent=parent.stream)
    helper = StreamBytes(b"h" * 16, parent=parent.stream, role="helper")
    parent.exit(0)
    alice.send(child, helper, parent)
    own.observed(child, "gone", cause="killed by SIGTERM")

    agent.send(own)

    detail = alice.detail()
    assert (detail.run.state, detail.run.cause) == ("finished", None)
    assert [(each.parent, each.role, each.state) for each in detail.streams] == [
        ("70" * 16, None, "gone"),
        ("70" * 16, "helper", "live"),
        (None, None, "ended"),
    ]
    assert detail.streams[0].observed == {"pid": 1, "cause": "killed by SIGTERM"}


def test_a_run_that_was_preempted_and_went_on_finishes(alice: Committer, agent: Committer) -> None:
    first, own = StreamBytes(), StreamBytes(run=None)
    own.observed(first, "gone", cause="killed by SIGKILL")
    alice.send(first)
    agent.send(own)
    assert alice.detail().run.state == "crashed"
    second = StreamBytes(started=next(first.clock) + 10**12)
    second.exit(0)

    alice.send(second)

    assert (alice.detail().run.state, alice.detail().run.cause) == ("finished", None)


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
