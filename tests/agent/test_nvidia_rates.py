"""Counters of the driver as rates, and what stands for no number at all."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.gpu_scene import MovedClock
from tracker_agent.collectors.nvidia_calls import FORGET_S, REPROBE_S, RETRY_S, Calls, Fatal, Lost, absent
from tracker_agent.collectors.nvidia_core import pcie_rates, power_values, throttle_values
from tracker_agent.collectors.nvidia_fields import (
    ALL_LINKS,
    ENERGY,
    PCIE_RECEIVED,
    PCIE_SENT,
    POWER_AVERAGE,
    THROTTLED,
    Counters,
    Field,
    Values,
)
from tracker_agent.collectors.nvidia_nvlink import NvLinks
from tracker_agent.collectors.nvidia_processes import Processes

NO_DEVICE: Any = None
#: None: the driver had no value in this sample.
READINGS = st.lists(st.tuples(st.floats(0, 100), st.none() | st.integers(0, 2**64 - 1)), max_size=30)


@given(READINGS)
def test_rate_is_growth_by_time_since_the_last_value_and_never_negative(
    readings: list[tuple[float, int | None]],
) -> None:
    counters = Counters()
    now, known = 0.0, None

    for step, value in readings:
        now += step
        rate = counters.rate("energy", value, now)

        if value is None:
            assert rate is None
            continue
        if known is None or value < known[0] or now <= known[1]:
            assert rate is None
        else:
            assert rate == (value - known[0]) / (now - known[1])
            assert rate >= 0
        known = (value, now)


@given(READINGS, READINGS)
def test_counters_do_not_touch_each_other(
    first: list[tuple[float, int | None]], second: list[tuple[float, int | None]]
) -> None:
    both, alone = Counters(), Counters()
    now = 0.0

    for (step, value), (_, other) in zip(first, second, strict=False):
        now += step
        together = both.rate("a", value, now)
        both.rate("b", other, now)
        assert together == alone.rate("a", value, now)


@pytest.mark.parametrize(
    "value", [0xFFFFFFFF, 0x7FFFFFFF, 2**64 - 1, 2**63 - 1, 9223372036854775794, 0x7FFFFFF0]
)
def test_numbers_that_stand_for_nothing_are_known(value: int) -> None:
    assert absent(value)


@given(st.integers(-(2**31), 0x7FFFFFF0 - 1))
def test_other_numbers_are_numbers(value: int) -> None:
    assert not absent(value)


def links(version: int) -> NvLinks:
    made = NvLinks(Calls(MovedClock()))
    made.learn({Field(91): 18, Field(166, 0): version})
    return made


def rates_of(made: NvLinks, sent: tuple[int, int], received: tuple[int, int]) -> dict[str, float | None]:
    counters = Counters()
    made.rates({Field(sent[0], ALL_LINKS): 1000, Field(received[0], ALL_LINKS): 50}, counters, 10.0)
    after: Values = {
        Field(sent[0], ALL_LINKS): 1000 + sent[1],
        Field(received[0], ALL_LINKS): 50 + received[1],
    }
    return made.rates(after, counters, 12.0)


def test_links_up_to_the_fourth_generation_count_kib_and_the_fifth_bytes() -> None:
    fourth = rates_of(links(6), (138, 200), (139, 100))
    fifth = rates_of(links(7), (202, 200), (204, 100))

    assert fourth == {"nvlink.sent.bytes_per_s": 100 * 1024, "nvlink.received.bytes_per_s": 50 * 1024}
    assert fifth == {"nvlink.sent.bytes_per_s": 100, "nvlink.received.bytes_per_s": 50}


@pytest.mark.parametrize(("version", "first", "second"), [(6, 138, 202), (7, 202, 138)])
def test_each_generation_is_asked_for_its_own_counters_and_else_for_the_others(
    version: int, first: int, second: int
) -> None:
    calls = Calls(MovedClock())
    made = NvLinks(calls)
    nothing = made.fast_fields()
    made.learn({Field(91): 4, Field(166, 0): version})

    own = made.fast_fields()
    calls.refuse(Field(first, ALL_LINKS))

    assert nothing == []
    assert own[0].id == first
    assert made.fast_fields()[0].id == second


def nothing_offered() -> Calls:
    calls = Calls(MovedClock())
    for name in ("CurrentClocksEventReasons", "CurrentClocksThrottleReasons", "PowerUsage"):
        calls.refuse((f"nvmlDeviceGet{name}",))
    calls.refuse(("nvmlDeviceGetTotalEnergyConsumption",))
    return calls


@given(st.integers(0, 10**12), st.floats(0.1, 60), st.floats(0, 1))
def test_time_slowed_is_a_percentage_of_the_time_between_two_samples(
    start: int, elapsed_s: float, share: float
) -> None:
    calls, counters = nothing_offered(), Counters()
    field = Field(THROTTLED["power_cap"])
    throttle_values(calls, NO_DEVICE, {field: start}, counters, 100.0)

    grown = start + round(share * elapsed_s * 1e9)
    values = throttle_values(calls, NO_DEVICE, {field: grown}, counters, 100.0 + elapsed_s)

    percent = values["throttle.power_cap.percent"]
    assert percent is not None
    assert percent == pytest.approx(100 * share, abs=1e-3)
    assert percent <= 100.0
    assert values["throttle.sync_boost.percent"] is None


def test_mean_power_is_energy_by_time() -> None:
    calls, counters = nothing_offered(), Counters()
    power_values(calls, NO_DEVICE, {Field(ENERGY): 5_000_000}, counters, 10.0)

    values = power_values(
        calls, NO_DEVICE, {Field(ENERGY): 6_300_000, Field(POWER_AVERAGE): 700_500}, counters, 12.0
    )

    assert values["power.mean.watts"] == 650.0
    assert values["energy.joules"] == 6300.0
    assert values["power.watts"] == 700.5
    assert values["power.instant.watts"] is None


def test_pcie_counts_bytes() -> None:
    counters = Counters()
    pcie_rates({Field(PCIE_SENT): 100, Field(PCIE_RECEIVED): 2**40}, counters, 1.0)

    values = pcie_rates({Field(PCIE_SENT): 300, Field(PCIE_RECEIVED): 7}, counters, 3.0)

    assert values == {"pcie.sent.bytes_per_s": 100.0, "pcie.received.bytes_per_s": None}


class PlayedCalls(Calls):
    """A GPU whose one process has pid 7, and whose driver answers with the samples of a test."""

    samples: Sequence[SimpleNamespace] = ()

    def ask_as(self, question: Hashable, name: str, *arguments: Any) -> Any:
        if name == "nvmlDeviceGetProcessUtilization":
            return list(self.samples)
        return [SimpleNamespace(pid=7, usedGpuMemory=100), SimpleNamespace(pid=7, usedGpuMemory=20)]


def shares(calls: PlayedCalls, processes: Processes, *samples: tuple[int, int]) -> float | None:
    calls.samples = [SimpleNamespace(pid=7, timeStamp=at, smUtil=share) for at, share in samples]
    rows = processes.read(NO_DEVICE)
    assert rows is not None
    (row,) = rows
    assert (row["pid"], row["memory_bytes"]) == (7, 120), "both contexts of the process together"
    share: float | None = row["sm_percent"]
    return share


def test_process_is_as_busy_as_its_samples_since_the_last_time_say() -> None:
    calls = PlayedCalls(MovedClock())
    processes = Processes(calls)

    past = shares(calls, processes, (1000, 90))
    busy = shares(calls, processes, (1000, 90), (2000, 40), (3000, 60), (4000, 0xFFFFFFFF))
    idle = shares(calls, processes)

    assert past is None, "the driver remembers what was before"
    assert busy == 50.0
    assert idle == 0.0


def test_what_is_not_offered_is_left_alone_longer_than_what_failed() -> None:
    clock = MovedClock()
    calls = Calls(clock)
    not_supported, unknown, not_found = 3, 999, 6

    calls.judge("a", not_supported, "A")
    calls.judge("b", unknown, "B")
    calls.judge("c", not_found, "C")

    assert [calls.refuses(question) for question in "abc"] == [True, True, False]
    assert calls.problem() == "B: Unknown (999)"
    clock.now += RETRY_S
    assert calls.problem() == "B: Unknown (999)", "it is asked again with the next sample"
    assert [calls.refuses(question) for question in "ab"] == [True, False]
    assert calls.problem() == ""
    clock.now += REPROBE_S - RETRY_S
    assert not calls.refuses("a")


def test_problem_of_a_question_that_is_not_asked_any_more_is_forgotten() -> None:
    clock = MovedClock()
    calls = Calls(clock)
    calls.judge("link 17", 999, "field 161")

    clock.now += RETRY_S + FORGET_S

    assert calls.problem() == ""


def test_errors_of_the_gpu_and_of_the_driver_are_told_apart() -> None:
    calls = Calls(MovedClock())

    for code in (15, 16, 28):
        with pytest.raises(Lost):
            calls.judge("a", code, "A")
    for code in (1, 9, 17, 18):
        with pytest.raises(Fatal, match="A: "):
            calls.judge("a", code, "A")


def test_many_problems_are_named_in_a_few_words() -> None:
    calls = Calls(MovedClock())

    for number in range(20):
        calls.judge(number, 999, f"field {number:02}")

    assert calls.problem() == (
        "field 00: Unknown (999), field 01: Unknown (999), field 02: Unknown (999) and 17 more"
    )


def test_error_that_has_no_name_yet_is_told_by_its_number() -> None:
    calls = Calls(MovedClock())

    calls.judge("a", 777, "A")

    assert calls.problem() == "A: error (777)"
