"""What is wrong with a GPU: judged from the values of its samples and from what the driver tells."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from tracker_agent.collectors.collector import Event
from tracker_agent.collectors.nvidia_health import REPEAT_S, REPEATS_MAX, Happenings, Health
from tracker_agent.collectors.nvidia_xids import XIDS, look_up

NOW_NS = 1_700_000_000_000_000_000
GPUS: Mapping[int, Mapping[str, Any]] = {
    0: {"index": 0, "uuid": "GPU-0", "name": "H100"},
    3: {"index": 3, "uuid": "GPU-3", "name": "H100"},
}


def gpu(index: int = 0, problem: str = "", **values: Any) -> dict[str, Any]:
    named = {name.replace("__", "."): value for name, value in values.items()}
    shown = {"index": index, "uuid": f"GPU-{index}", "name": "H100", "values": named}
    return {**shown, "problem": problem} if problem else shown


def look(health: Health, *gpus: dict[str, Any]) -> tuple[list[str], list[Event]]:
    return health.look(gpus, NOW_NS)


def xid(number: int, index: int | None = 3, **more: int) -> dict[str, Any]:
    return {"kind": "xid", "index": index, "data": number, **more}


def told(happenings: Happenings, now: float, *events: dict[str, Any], **more: int) -> list[Event]:
    line = {"events": list(events), "more_events": dict(more)}
    return happenings.tell([line] if events or more else [], GPUS, now, NOW_NS)


def test_errors_of_the_past_are_no_news_and_new_ones_are() -> None:
    health = Health()

    first = look(health, gpu(ecc__uncorrected__aggregate__count=7))
    same = look(health, gpu(ecc__uncorrected__aggregate__count=7))
    _, (event,) = look(health, gpu(ecc__uncorrected__aggregate__count=9))

    assert first == same == ([], [])
    assert (event.level, event.time) == ("error", NOW_NS)
    assert event.title == "GPU 0: 2 uncorrected memory errors"
    assert event.facts == {"gpu": "GPU-0", "index": 0, "ecc_uncorrected": 2}


def test_count_that_starts_again_with_the_driver_is_no_error() -> None:
    health = Health()
    look(health, gpu(ecc__uncorrected__volatile__count=5))

    reloaded = look(health, gpu(ecc__uncorrected__volatile__count=0))
    _, events = look(health, gpu(ecc__uncorrected__volatile__count=1))

    assert reloaded == ([], [])
    assert [event.facts["ecc_uncorrected"] for event in events] == [1]


def test_error_is_not_told_twice_because_two_counters_have_it() -> None:
    health = Health()
    look(health, gpu(ecc__uncorrected__volatile__count=0, ecc__uncorrected__aggregate__count=0))

    _, events = look(health, gpu(ecc__uncorrected__volatile__count=1, ecc__uncorrected__aggregate__count=1))

    assert len(events) == 1


@pytest.mark.parametrize(
    "name", ["rows_remapped__pending__count", "rows_remapped__failed__count", "pages_retired__pending__count"]
)
def test_flag_is_an_event_once_and_a_problem_while_it_lasts(name: str) -> None:
    health = Health()
    on: dict[str, Any] = {name: 1.0}
    off: dict[str, Any] = {name: 0.0}

    problems, events = look(health, gpu(**on))
    later_problems, later_events = look(health, gpu(**on))
    after = look(health, gpu(**off))

    assert [event.level for event in events] == ["error"]
    assert problems == later_problems
    assert len(problems) == 1
    assert problems[0].startswith("GPU 0: a ")
    assert later_events == []
    assert after == ([], [])
    assert len(look(health, gpu(**on))[1]) == 1, "a second time is news again"


def test_recovery_action_is_told_at_each_change() -> None:
    health = Health()

    nothing = look(health, gpu(recovery_action__code=0))
    problems, (asks,) = look(health, gpu(recovery_action__code=2))
    again = look(health, gpu(recovery_action__code=2))
    well, (ends,) = look(health, gpu(recovery_action__code=0))

    assert nothing == ([], [])
    assert problems == again[0] == ["GPU 0: needs a reboot of the machine"]
    assert (asks.level, asks.facts["recovery_action"]) == ("error", 2)
    assert not again[1] and not well
    assert (ends.level, ends.facts["recovery_action"]) == ("info", 0)


def test_recovery_action_nobody_knows_yet_is_told_by_its_number() -> None:
    problems, events = look(Health(), gpu(recovery_action__code=17))

    assert problems == ["GPU 0: needs recovery action 17"]
    assert len(events) == 1


def test_links_that_never_were_up_are_no_fault_and_one_that_goes_down_is() -> None:
    health = Health()

    bare = look(health, gpu(1, nvlink__links_up__count=0, nvlink__links_down__count=4))
    look(health, gpu(nvlink__links_up__count=18))
    problems, (down,) = look(health, gpu(nvlink__links_up__count=16))
    lasting = look(health, gpu(nvlink__links_up__count=16))
    well, (up,) = look(health, gpu(nvlink__links_up__count=18))

    assert bare == ([], [])
    assert problems == lasting[0] == ["GPU 0: 2 NVLinks are down"]
    assert (down.level, down.title) == ("error", "GPU 0: 2 NVLinks went down")
    assert (up.level, up.facts["nvlinks_up"]) == ("info", 18)
    assert not well and not lasting[1]


def test_gpu_that_cannot_join_its_fabric_is_told() -> None:
    health = Health()

    waits = look(health, gpu(nvlink__fabric_state__code=2))
    problems, (event,) = look(health, gpu(nvlink__fabric_state__code=3, nvlink__fabric_status__code=999))
    again = look(health, gpu(nvlink__fabric_state__code=3, nvlink__fabric_status__code=999))
    joined = look(health, gpu(nvlink__fabric_state__code=3, nvlink__fabric_status__code=0))

    assert waits == (["GPU 0: waits for the fabric manager to let it join its NVLink fabric"], [])
    assert problems == ["GPU 0: cannot join its NVLink fabric (error 999)"]
    assert again == (problems, [])
    assert event.facts["fabric"] == 999
    assert joined == ([], [])


def test_pcie_link_with_too_few_lanes_is_a_problem() -> None:
    health = Health()

    assert look(health, gpu(pcie__width__count=16, pcie__width_max__count=16)) == ([], [])
    assert look(health, gpu(pcie__width__count=8, pcie__width_max__count=16)) == (
        ["GPU 0: PCIe uses 8 of 16 lanes"],
        [],
    )


def test_sample_without_values_changes_nothing_that_is_known() -> None:
    health = Health()
    look(
        health, gpu(recovery_action__code=1, nvlink__links_up__count=18, ecc__uncorrected__aggregate__count=3)
    )

    lost, events = look(health, gpu(problem="GpuIsLost (15)"))
    _, back = look(
        health, gpu(recovery_action__code=1, nvlink__links_up__count=18, ecc__uncorrected__aggregate__count=4)
    )

    assert (lost, events) == (["GPU 0: GpuIsLost (15)"], [])
    assert [event.facts.get("ecc_uncorrected") for event in back] == [1]


def test_lost_gpu_is_told_once_and_its_return_too() -> None:
    health = Health()
    lost = {**gpu(problem="GpuIsLost (15)"), "lost": True}
    look(health, gpu())

    problems, (event,) = look(health, lost)
    again = look(health, lost)
    well, (back,) = look(health, gpu())

    assert problems == again[0] == ["GPU 0: GpuIsLost (15)"]
    assert (event.level, event.title) == ("error", "GPU 0: does not answer any more: GpuIsLost (15)")
    assert not again[1] and not well
    assert (back.level, back.facts) == ("info", {"gpu": "GPU-0", "index": 0, "lost": False})
    assert look(health, gpu(problem="one value")) == (["GPU 0: one value"], [])


def test_gpus_are_told_apart_by_uuid_not_by_index() -> None:
    health = Health()
    look(health, gpu(0, ecc__uncorrected__aggregate__count=0), gpu(1, ecc__uncorrected__aggregate__count=9))
    moved = {**gpu(1, ecc__uncorrected__aggregate__count=9), "index": 0}

    assert look(health, moved) == ([], [])


def test_xid_says_what_it_means_what_to_do_and_on_which_gpu() -> None:
    (event,) = told(Happenings(), 0.0, xid(79))

    assert event.title == "GPU 3: Xid 79: the GPU has fallen off the bus"
    assert "Reboot" in event.text
    assert "GPU-3" in event.text
    assert (event.level, event.time) == ("error", NOW_NS)
    assert event.facts == {"gpu": "GPU-3", "index": 3, "xid": 79}


@pytest.mark.parametrize("number", [13, 31, 43, 45])
def test_xids_of_buggy_programs_are_warnings(number: int) -> None:
    assert told(Happenings(), 0.0, xid(number))[0].level == "warn"


@pytest.mark.parametrize("number", [46, 48, 62, 64, 74, 79, 95, 119, 120, 140, 143, 147, 154, 155, 156, 158])
def test_xids_of_the_hardware_are_errors(number: int) -> None:
    assert told(Happenings(), 0.0, xid(number))[0].level == "error"


def test_every_known_xid_has_words_and_an_unknown_one_too() -> None:
    for known in (*XIDS.values(), look_up(99999)):
        assert known.level in ("info", "warn", "error")
        assert known.meaning
        assert known.advice


def test_event_of_an_unknown_gpu_and_one_with_instances_are_told() -> None:
    unknown, instance = told(Happenings(), 0.0, xid(13, None), xid(31, 3, gi=2, ci=1))

    assert unknown.title.startswith("An unknown GPU: Xid 13")
    assert (instance.facts["gi"], instance.facts["ci"]) == (2, 1)


def test_repeated_xid_is_told_once_and_then_counted_each_minute() -> None:
    happenings = Happenings()

    first = told(happenings, 0.0, xid(31), xid(31), xid(31))
    silent = [told(happenings, float(now), xid(31)) for now in range(2, int(REPEAT_S), 2)]
    (summary,) = told(happenings, REPEAT_S, xid(31))
    (other,) = told(happenings, REPEAT_S + 2, xid(31, 0))
    quiet = told(happenings, 2 * REPEAT_S)
    anew = told(happenings, 2 * REPEAT_S + 2, xid(31))

    assert len(first) == 1
    assert not any(silent)
    assert summary.facts["count"] == 2 + len(silent) + 1
    assert f"({2 + len(silent) + 1} more within 60 s)" in summary.title
    assert other.facts["index"] == 0
    assert quiet == [], "a summary of nothing is none"
    assert len(anew) == 1


def test_rest_of_a_storm_is_said_once_a_minute_with_its_numbers() -> None:
    happenings = Happenings()

    (rest,) = told(happenings, 0.0, **{"Xid 31": 40, "Xid 45": 2})
    silent = told(happenings, 2.0, **{"Xid 31": 100})
    (later,) = told(happenings, REPEAT_S, **{"Xid 31": 1})

    assert rest.title.startswith("42 more ")
    assert rest.facts == {"more": {"Xid 31": 40, "Xid 45": 2}}
    assert silent == []
    assert later.facts == {"more": {"Xid 31": 101}}


def test_number_of_different_events_that_are_remembered_is_bounded() -> None:
    happenings = Happenings()

    events = told(happenings, 0.0, *[xid(number) for number in range(1000, 1000 + REPEATS_MAX + 50)])

    assert len(events) == REPEATS_MAX + 1
    assert sum(events[-1].facts["more"].values()) == 50


def test_other_events_of_the_driver_are_told_and_the_recovery_action_by_its_number_alone() -> None:
    events = told(
        Happenings(),
        0.0,
        {"kind": "double bit error", "index": 0, "data": 0},
        {"kind": "recovery action", "index": 0, "data": 0},
        {"kind": "event 0x100000", "index": 0, "data": 0},
    )

    assert [event.level for event in events] == ["error", "warn"]
    assert "memory lost data" in events[0].title
    assert "event 0x100000" in events[1].title
