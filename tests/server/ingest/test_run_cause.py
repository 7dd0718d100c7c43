"""Why a run ended: pure decisions, and what commit() makes of records in any order of arrival."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.stores import Committer, add_principal
from tests.support.streams import StreamBytes
from tracker_server.ingest.run_cause import UNKNOWN, run_cause, tells_more
from tracker_server.store.endings import Ending
from tracker_server.store.store import Store

HOST = ("m", "b")


def gone(ordinal: int = 0, since: int = 10, cause: str | None = None, **more: Any) -> Ending:
    observed = {} if cause is None else {"cause": cause}
    observed_too = {**observed, **more}
    return Ending(
        ordinal, "gone", since, observed=observed_too, place=HOST, pid=7, stream=bytes([ordinal]) * 16
    )


def ended(code: int, ordinal: int = 0, since: int = 10, **more: Any) -> Ending:
    return Ending(
        ordinal, "ended", since, exit_code=code, **{"place": HOST, "stream": bytes([ordinal]) * 16, **more}
    )


@pytest.mark.parametrize(
    ("endings", "cause"),
    [
        ([], None),
        ([ended(0)], None),
        ([ended(3)], "exit code 3"),
        ([ended(1, exception={"type": "ValueError", "message": "bad\nworse"})], "ValueError: bad"),
        ([gone()], UNKNOWN),
        ([gone(cause="")], UNKNOWN),
        ([gone(cause="killed by SIGKILL")], "killed by SIGKILL"),
        ([gone(), Ending(1, "live", 1, stream=b"l" * 16)], None),
        # The first to go takes the others with it.
        ([ended(1, 0, 20), gone(1, 10, "out of memory")], "out of memory"),
        ([ended(1, 0, 5), gone(1, 10, "out of memory")], "exit code 1"),
        ([ended(1, 0, 15), gone(1, 30, "out of memory", died=9)], "out of memory"),
        # A supervisor speaks of another process, of which only its parent knows.
        ([gone(), ended(137, 1, 5, told={"pid": 7, "signal": 9})], "killed by SIGKILL"),
        ([gone(), ended(2, 1, 5, told={"pid": 7})], "ended with code 2 and without a word"),
        ([gone(), ended(137, 1, 5, told={"pid": 8, "signal": 9})], UNKNOWN),
        ([ended(139, told={"pid": 7, "signal": 11})], "killed by SIGSEGV"),
        ([gone(cause="deleted from the spool"), ended(0, 1)], "deleted from the spool"),
        # A request stands before what it led to, whatever the code.
        ([ended(130, told={"stopped_by": "ada", "request": 1})], "stopped by ada"),
        ([ended(0, told={"stopped_by": "ada"}), gone(1, 5)], "stopped by ada"),
        ([ended(0, told={"stopped_by": ""})], "stopped by a request"),
        # What is no text or number is nobody's evidence.
        ([ended(3, told={"stopped_by": 5, "signal": "9"})], "exit code 3"),
        ([gone(cause=None, died="x")], UNKNOWN),
    ],
)
def test_a_run_ends_for_the_reason_that_came_first(endings: list[Ending], cause: str | None) -> None:
    assert run_cause(endings) == cause


def test_a_supervisor_on_another_host_speaks_of_another_process() -> None:
    supervisor = ended(137, 1, 5, told={"pid": 7, "signal": 9}, place=("other", "b"))

    assert run_cause([gone(), supervisor]) == UNKNOWN


def test_a_long_cause_is_cut_to_a_line() -> None:
    cause = run_cause([ended(1, exception={"type": "E", "message": "x" * 1000})])

    assert cause is not None
    assert len(cause) == 200


def test_what_an_agent_knew_is_not_replaced_by_its_not_knowing() -> None:
    known, unknown = {"cause": "killed by SIGKILL"}, {"cause": UNKNOWN}

    assert not tells_more("gone", unknown, "gone", known)
    assert tells_more("gone", known, "gone", unknown)
    assert tells_more("gone", unknown, "live", {"pid": 1})
    assert tells_more("live", {}, "gone", known)


@pytest.fixture
def alice(store: Store) -> Committer:
    return Committer(store, add_principal(store))


@pytest.fixture
def agent(store: Store, alice: Committer) -> Committer:
    return Committer(store, add_principal(store, "agent", kind="service"), uid=0)


def test_a_cause_is_kept_with_the_run_and_goes_when_it_runs_again(alice: Committer, agent: Committer) -> None:
    run, own = StreamBytes(b"r" * 16), StreamBytes(b"h" * 16, run=None)
    own.observed(run, "gone", cause="killed by SIGKILL", signal=9)
    alice.send(run)
    agent.send(own)
    crashed = alice.detail().run
    again = StreamBytes(b"s" * 16)

    alice.send(again)

    assert (crashed.state, crashed.cause) == ("crashed", "killed by SIGKILL")
    assert (alice.detail().run.state, alice.detail().run.cause) == ("running", None)


def test_an_observation_that_comes_before_its_stream_counts_as_well(
    alice: Committer, agent: Committer
) -> None:
    run, own = StreamBytes(b"r" * 16), StreamBytes(b"h" * 16, run=None)
    own.observed(run, "gone", cause="reboot")

    agent.send(own)
    alice.send(run)

    assert alice.detail().run.cause == "reboot"


def test_a_silent_agent_crashes_nobody(alice: Committer, agent: Committer) -> None:
    run, own = StreamBytes(b"r" * 16), StreamBytes(b"h" * 16, run=None)
    own.observed(run, "live")
    alice.send(run)
    agent.send(own)
    for _ in range(100):
        next(alice.now)  # time passes, and nothing is heard

    assert (alice.detail().run.state, alice.detail().run.cause) == ("running", None)
