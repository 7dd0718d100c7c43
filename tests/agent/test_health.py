"""Health is told by progress: data waits, the server takes it, positions move."""

from __future__ import annotations

from typing import Any

from tracker_agent.health import PROGRESS_S, Health


def lane(positions: int, behind: int, state: str = "shipping", **more: Any) -> dict[str, Any]:
    return {
        "credential": "default",
        "server": "http://s",
        "state": state,
        "reason": "",
        "positions": positions,
        "behind_bytes": behind,
        **more,
    }


def test_agent_that_has_looked_at_nothing_yet_is_not_ready() -> None:
    verdict = Health().observe([], [], 0)

    assert (verdict.state, verdict.ready, verdict.alive) == ("starting", False, True)


def test_agent_with_nothing_to_ship_is_ready_also_without_a_server() -> None:
    verdict = Health().observe([lane(10, 0, "retrying")], [], 0)

    assert (verdict.state, verdict.ready) == ("idle", True)


def test_agent_whose_positions_move_is_ready_however_much_waits() -> None:
    health = Health()

    verdicts = [health.observe([lane(n, 10**9)], [], n * PROGRESS_S) for n in range(10)]

    assert {verdict.state for verdict in verdicts} == {"shipping"}


def test_agent_that_says_it_ships_while_nothing_moves_is_stalled() -> None:
    health = Health()
    health.observe([lane(5, 100)], [], 0)

    soon = health.observe([lane(5, 100)], [], PROGRESS_S)
    late = health.observe([lane(5, 100)], [], PROGRESS_S + 1)

    assert soon.ready
    assert (late.state, late.ready, late.alive) == ("stalled", False, True)
    assert "default at http://s: nothing taken for 61 s" in late.reasons[0]


def test_stalled_agent_is_ready_again_once_something_moves() -> None:
    health = Health()
    health.observe([lane(5, 100, "retrying", reason="503: full")], [], 0)
    stalled = health.observe([lane(5, 100, "retrying", reason="503: full")], [], 100)

    moved = health.observe([lane(6, 99)], [], 101)

    assert "503: full" in stalled.reasons[0]
    assert moved.ready


def test_quiet_time_before_data_came_is_no_stall() -> None:
    health = Health()
    health.observe([lane(5, 0)], [], 0)
    health.observe([lane(5, 0)], [], 1000)

    assert health.observe([lane(5, 100)], [], 1001).ready


def test_one_users_refused_key_leaves_the_agent_ready_and_is_said() -> None:
    health = Health()
    lanes = [lane(1, 0), lane(0, 50, "parked", credential="uid-7", reason="401: revoked")]
    health.observe(lanes, [], 0)

    verdict = health.observe(lanes, [], 1000)

    assert verdict.ready
    assert verdict.reasons == ("uid-7 at http://s: 401: revoked",)


def test_agent_that_is_refused_everywhere_is_not_ready() -> None:
    verdict = Health().observe([lane(0, 50, "parked", reason="401: unknown key")], [], 0)

    assert (verdict.state, verdict.ready, verdict.alive) == ("refused", False, True)


def test_stuck_loop_means_that_a_restart_would_help() -> None:
    verdict = Health().observe([lane(1, 0)], ["scan /spool"], 0)

    assert (verdict.state, verdict.alive, verdict.ready) == ("stuck", False, False)
    assert verdict.reasons == ("scan /spool does not come round",)


def test_lanes_that_are_gone_are_forgotten() -> None:
    health = Health()
    for n in range(100):
        health.observe([lane(0, 1, credential=f"uid-{n}")], [], n)

    assert len(health._lanes) == 1
