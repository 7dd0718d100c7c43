"""Events that become alerts: once, in bounds, with a count of what was left out."""

from __future__ import annotations

from tracker_agent.alerts import ALERTS_PER_MINUTE, REPEAT_S, Alerts
from tracker_agent.collectors.collector import Event


def event(title: str) -> Event:
    return Event(1, title, "text", "warn", {})


def test_same_event_is_told_again_after_a_while_with_the_count() -> None:
    alerts = Alerts()

    told = [alerts.admit(event("link down"), float(now)) for now in range(int(REPEAT_S) + 1)]

    assert [alert is not None for alert in told] == [True, *[False] * (int(REPEAT_S) - 1), True]
    first, last = told[0], told[-1]
    assert first is not None
    assert last is not None
    assert first.facts is None
    assert last.facts == {"repeated": REPEAT_S - 1}
    assert alerts.status() == {"written": 2, "repeated": REPEAT_S - 1, "left_out": 0}


def test_event_of_another_level_is_another_event() -> None:
    alerts = Alerts()

    assert alerts.admit(event("x"), 0.0) is not None
    assert alerts.admit(event("x")._replace(level="error"), 0.0) is not None


def test_storm_of_different_events_is_cut_and_over_after_a_minute() -> None:
    alerts = Alerts()

    told = [alerts.admit(event(f"{number}"), 0.001 * number) for number in range(1000)]

    assert sum(alert is not None for alert in told) == ALERTS_PER_MINUTE
    assert alerts.left_out == 1000 - ALERTS_PER_MINUTE
    assert alerts.admit(event("later"), 61.0) is not None


def test_what_is_remembered_does_not_grow_with_the_storm() -> None:
    alerts = Alerts()

    for number in range(20_000):
        alerts.admit(event(f"{number}"), float(number))
        alerts.admit(event(f"{number}"), float(number))

    assert len(alerts._recent) + len(alerts._repeated) + len(alerts._told) < 20 * ALERTS_PER_MINUTE
