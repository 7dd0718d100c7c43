"""What becomes of a run: the same for whoever looks at its files and for the server."""

from __future__ import annotations

import itertools

import pytest

from tracker.protocol.header import AGAIN, ASIDE, HELPER, SUPERVISOR
from tracker.protocol.run_state import Writer, deciding, state_of

INFINITE = float("inf")


def writer(
    stream: int,
    started: int,
    ended: float,
    code: int | None = None,
    role: str | None = None,
    parent: int | None = None,
    rank: int | None = None,
) -> Writer:
    of = None if parent is None else bytes([parent])
    return Writer(bytes([stream]), of, role, rank, started, ended, code, stream)


@pytest.mark.parametrize(
    ("writers", "state"),
    [
        ([writer(1, 0, INFINITE)], "running"),
        ([writer(1, 0, 9, 0)], "finished"),
        ([writer(1, 0, 9, 3)], "failed"),
        ([writer(1, 0, 9)], "crashed"),
        # A worker that was terminated, and one that failed.
        ([writer(1, 0, 9, 0), writer(2, 1, 5, parent=1)], "finished"),
        ([writer(1, 0, 9, 0), writer(2, 1, 5, 1, parent=1)], "failed"),
        # The helper lives on, or was killed.
        ([writer(1, 0, 9, 0), writer(2, 1, INFINITE, role=HELPER, parent=1)], "finished"),
        ([writer(1, 0, 9), writer(2, 1, 9, 0, role=HELPER, parent=1)], "crashed"),
        # The training's own stream has not arrived yet.
        ([writer(2, 1, 9, 0, role=HELPER, parent=1)], "running"),
        # The supervisor saw a training in another language fail, or went before the training.
        ([writer(1, 0, 9, 139, role=SUPERVISOR)], "failed"),
        ([writer(1, 0, 3, role=SUPERVISOR), writer(2, 1, 9, 0)], "finished"),
        ([writer(1, 0, INFINITE, role=SUPERVISOR), writer(2, 1, 9, 0)], "running"),
        # A script adds a number to what crashed; a run of such numbers alone.
        ([writer(1, 0, 3), writer(2, 5, 6, 0, role=ASIDE)], "crashed"),
        ([writer(1, 0, 3, 1, role=ASIDE), writer(2, 5, 6, 0, role=ASIDE)], "finished"),
        # Preempted, and gone on.
        ([writer(1, 0, 3), writer(2, 5, 9, 0)], "finished"),
        ([writer(1, 0, 3, rank=0), writer(2, 0, 9, 0, rank=1), writer(3, 5, 9, 0, rank=0)], "finished"),
        # Descriptors were closed, and the process went on.
        ([writer(1, 0, 3), writer(2, 2, 9, 0, role=AGAIN, parent=1)], "finished"),
    ],
)
def test_states(writers: list[Writer], state: str) -> None:
    for order in itertools.permutations(writers):
        assert state_of(deciding(order)) == state


def test_one_that_went_on_in_another_stream_is_named_by_that_and_stands_where_it_began() -> None:
    first, second = writer(1, 0, 3), writer(2, 2, 9, 5, role=AGAIN, parent=1)
    child = writer(3, 4, 6, 0, parent=2)

    found = deciding([first, second, child])

    assert [(each.ordinal, each.stream, each.started, each.exit_code) for each in found] == [
        (2, b"\1", 0, 5),
        (3, b"\3", 4, 0),
    ]


def test_streams_that_began_at_once_are_taken_in_the_order_of_their_ordinals() -> None:
    chain = [writer(1, 5, 6), writer(2, 5, 7, role=AGAIN, parent=1), writer(3, 5, 9, 0, role=AGAIN, parent=2)]
    for order in itertools.permutations(chain):
        assert [(each.ordinal, each.stream) for each in deciding(order)] == [(3, b"\1")]
