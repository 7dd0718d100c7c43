"""Who gets how much of a request, and when one goes out."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tracker_agent.batcher import BACKFILL_SHARE, STREAMS_MAX, Candidate, allot, flush_at, plan

MIB = 2**20


def test_backlog_cannot_push_out_live_data() -> None:
    chosen = plan([Candidate("old", False, 100 * MIB), Candidate("now", True, MIB)], 4 * MIB)

    assert {each.key: each.limit for each in chosen} == {"now": MIB, "old": 3 * MIB}


def test_live_data_leaves_backfill_its_share() -> None:
    chosen = plan([Candidate("now", True, 100 * MIB), Candidate("old", False, 100 * MIB)], 4 * MIB)

    assert {each.key: each.limit for each in chosen} == {"now": 3 * MIB, "old": MIB}


def test_many_live_streams_leave_backfill_its_places() -> None:
    live = [Candidate(("live", number), True, 1000) for number in range(2 * STREAMS_MAX)]
    old = [Candidate(("old", number), False, 1000) for number in range(2 * STREAMS_MAX)]

    chosen = plan(live + old, 4 * MIB)

    assert len(chosen) == STREAMS_MAX
    assert sum(each.key[0] == "old" for each in chosen) == int(STREAMS_MAX * BACKFILL_SHARE)


def test_those_who_waited_longest_come_first() -> None:
    chosen = plan([Candidate(number, True, 10) for number in range(STREAMS_MAX + 5)], 4 * MIB)

    assert [each.key for each in chosen] == list(range(STREAMS_MAX))


@given(st.lists(st.integers(0, 10**7), max_size=50), st.integers(0, 10**7))
def test_shares_are_fair(wanted: list[int], total: int) -> None:
    given_out = allot(wanted, total)

    assert sum(given_out) <= total
    assert sum(given_out) == min(total, sum(wanted))
    assert all(got <= want for got, want in zip(given_out, wanted, strict=True))
    cut = [got for got, want in zip(given_out, wanted, strict=True) if got < want]
    assert max(given_out, default=0) <= min(cut, default=10**9) + 1


def test_first_data_goes_at_once_and_later_data_within_the_interval() -> None:
    assert flush_at(now=100.0, last_flush=50.0, interval_s=0.2, full=False) == 100.0
    assert flush_at(now=100.0, last_flush=99.95, interval_s=0.2, full=False) == 99.95 + 0.2
    assert flush_at(now=100.0, last_flush=99.95, interval_s=0.2, full=True) == 100.0
