"""The lag, and the busiest streams, from looks at what streams are doing."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from tracker_agent.busiest import SHOWN_MAX, Busiest
from tracker_agent.waits import Waits


def stream(number: int, position: int = 0, behind: int = 0, **more: Any) -> Any:
    return SimpleNamespace(
        key=(1000, number),
        id=bytes([number % 256]) * 16,
        uid=1000,
        user="ada",
        header=SimpleNamespace(run=f"run{number}"),
        position=position,
        bytes_behind=behind,
        **{"ended": False, "parked": None, "live": True, "own": False, **more},
    )


def test_lag_is_that_of_the_stream_that_stands_still_longest() -> None:
    waits = Waits()
    for now in range(0, 100, 2):
        moving, slow = stream(1, now, 10), stream(2, now // 40, 10)
        waits.look([moving, slow, stream(3, 5, 0)], now)

    assert waits.longest_s() == 18


def test_stream_that_is_parked_ended_or_gone_waits_no_longer() -> None:
    waits = Waits()
    for now, left in ((0, [stream(1, 0, 10)]), (10, [stream(1, 0, 10)])):
        waits.look(left, now)
    assert waits.longest_s() == 10

    for gone in ([], [stream(1, 0, 10, parked="diverged")], [stream(1, 0, 10, ended=True)]):
        waits.look(gone, 20)

        assert waits.longest_s() == 0


def test_busiest_streams_come_first_with_their_rates() -> None:
    busiest = Busiest()
    busiest.look([stream(1, 0), stream(2, 0), stream(3, 0, live=False)], 0)

    shown = busiest.look([stream(1, 100), stream(2, 5000, 7), stream(3, 0, live=False)], 2)

    assert [(each["run"], each["bytes_per_s"], each["behind_bytes"]) for each in shown] == [
        ("run2", 2500, 7),
        ("run1", 50, 0),
    ]


def test_stream_that_waits_tells_since_when() -> None:
    busiest = Busiest()
    for now in (0, 1, 2, 3):
        shown = busiest.look([stream(1, 4, 10)], now)

    assert shown[0]["waits_s"] == 3


def test_thousands_of_streams_are_shown_in_part() -> None:
    busiest = Busiest()

    assert len(busiest.look([stream(n) for n in range(3000)], 0)) == SHOWN_MAX
