"""What becomes of a run is told here as the server tells it: the same rules, from the same records."""

import itertools
import os
import random

import pytest

from tracker._commands.run_state import Writer, state_of
from tracker.protocol.header import AGAIN, ASIDE, HELPER, SUPERVISOR
from tracker_server.ingest import run_state
from tracker_server.store.endings import Ending

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
    return Writer(
        bytes([stream]), None if parent is None else bytes([parent]), role, rank, started, ended, code
    )


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
        assert state_of(order) == state


def test_random_runs_are_judged_as_the_server_judges_them() -> None:
    seed = int.from_bytes(os.urandom(4), "big")
    print("seed", seed)
    chance = random.Random(seed)
    for _ in range(3000):
        writers = [random_writer(chance, number) for number in range(chance.randint(1, 6))]

        assert state_of(writers) == run_state.derive_run_state([ending(each) for each in writers]).state, (
            writers
        )


def random_writer(chance: random.Random, number: int) -> Writer:
    started = chance.randrange(20)
    ended = chance.choice([INFINITE, started + chance.randrange(10), started + chance.randrange(10)])
    code = None if ended == INFINITE else chance.choice([None, 0, 0, 1])
    role = chance.choice([None, None, None, HELPER, AGAIN, SUPERVISOR, ASIDE, "something new"])
    parent = chance.choice([None, None, *range(8)])
    rank = chance.choice([None, None, 0, 1])
    return writer(number, started, ended, code, role, None if parent == number else parent, rank)


def ending(each: Writer) -> Ending:
    """Return what the server would know of a writer."""
    state = "live" if each.live else "gone" if each.exit_code is None else "ended"
    known = {
        "stream": each.stream,
        "ordinal": each.stream[0],
        "state": state,
        "exit_code": each.exit_code,
        "since": each.started if each.live else int(each.ended),
        "started": each.started,
        "role": each.role,
        "parent": each.parent,
        "rank": each.rank,
    }
    return Ending(**known)  # type: ignore[arg-type]
