"""Waiting: full jitter after the cap, Retry-After as a lower bound."""

from __future__ import annotations

import pytest

from tracker_agent.retry import RETRY_AFTER_MAX_S, Backoff, parse_retry_after


def test_bound_doubles_to_the_cap_and_the_whole_range_below_it_is_drawn_from() -> None:
    drawn: list[tuple[float, float]] = []
    backoff = Backoff(1.0, 300.0, lambda low, high: drawn.append((low, high)) or high)

    for _ in range(2000):
        backoff.failure()

    assert [high for _, high in drawn[:10]] == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300]
    assert set(drawn[9:]) == {(0.0, 300.0)}


def test_success_starts_over() -> None:
    backoff = Backoff(1.0, 300.0, lambda low, high: high)
    backoff.failure()
    backoff.failure()

    backoff.success()

    assert backoff.failure() == 1.0


def test_retry_after_is_honoured_and_spread_upwards() -> None:
    backoff = Backoff(1.0, 300.0, lambda low, high: high / 2)

    assert backoff.failure(retry_after_s=30.0) == 30.5
    assert backoff.failure(retry_after_s=1e9) == RETRY_AFTER_MAX_S + 1.0


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        ("7", 7.0),
        (" 0 ", 0.0),
        ("-1", None),
        ("soon", None),
        ("", None),
        ("Thu, 01 Jan 1970 00:02:00 GMT", 20.0),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0),
    ],
)
def test_both_forms_of_retry_after_are_understood(value: str | None, expected: float | None) -> None:
    assert parse_retry_after(value, now_s=100.0) == expected
