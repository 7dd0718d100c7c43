"""The agent's log: floods are cut and counted, the last lines stay in memory."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tracker_agent.log import RECENT_CHARACTERS_MAX, RECENT_LINES_MAX, Log, LogOutput
from tracker_agent.log_flood import MESSAGES_MAX, SAME_MAX, SIMILAR_MAX, WINDOW_S, FloodGate


class Now:
    def __init__(self) -> None:
        self.s = 0.0

    def __call__(self) -> float:
        return self.s


@pytest.fixture
def now() -> Now:
    return Now()


def test_same_complaint_is_written_a_few_times_and_then_counted(now: Now) -> None:
    gate = FloodGate(now)

    first = [gate.admit("disk full", {"stream": "a"}) for _ in range(100)]
    now.s += WINDOW_S
    later = gate.admit("disk full", {"stream": "a"})

    assert first == [0] * SAME_MAX + [None] * (100 - SAME_MAX)
    assert later == 100 - SAME_MAX
    assert gate.suppressed == 100 - SAME_MAX


def test_complaint_about_every_stream_is_written_for_some_of_them(now: Now) -> None:
    gate = FloodGate(now)

    written = [gate.admit("disk full", {"stream": n}) for n in range(3000)]

    assert sum(each is not None for each in written) == SIMILAR_MAX


def test_other_complaints_are_not_held_back_by_a_flood(now: Now) -> None:
    gate = FloodGate(now)
    for _ in range(1000):
        gate.admit("disk full", {})

    assert gate.admit("server away", {}) == 0


def test_memory_for_what_was_said_is_bounded(now: Now) -> None:
    gate = FloodGate(now)

    for n in range(5 * MESSAGES_MAX):
        gate.admit(f"message {n}", {"n": n})

    assert len(gate._similar) == len(gate._same) == MESSAGES_MAX


def test_flood_of_warnings_becomes_few_lines_and_what_is_no_complaint_all_pass(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as file:
        log = Log("json", "info", {}, LogOutput(file.fileno()))

        for n in range(100):
            log.logger.warning("cannot write down what was observed", stream=n)
            log.logger.info("configuration reloaded")

    lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert sum(line["level"] == "warning" for line in lines) == SIMILAR_MAX
    assert sum(line["level"] == "info" for line in lines) == 100


@pytest.mark.parametrize("log_format", ["console", "json"])
def test_traceback_shows_no_values_of_variables(log_format: str, tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as file:
        log = Log(log_format, "info", {}, LogOutput(file.fileno()))
        key = "tk_abcdefgh_" + "x" * 43

        try:
            raise ValueError("what went wrong", len(key))
        except ValueError as error:
            log.logger.error("it failed", exc_info=error)

    text = (tmp_path / "log").read_text()
    assert "what went wrong" in text
    assert "Traceback" in text
    assert "x" * 20 not in text


def test_last_lines_stay_in_memory_also_when_nobody_can_read_the_log() -> None:
    read, write = os.pipe()
    os.close(read)
    output = LogOutput(write)

    for n in range(RECENT_LINES_MAX + 5):
        output.msg(f"{n} " + "x" * 2 * RECENT_CHARACTERS_MAX)

    os.close(write)
    assert output.dropped == RECENT_LINES_MAX + 5
    assert len(output.recent) == RECENT_LINES_MAX
    assert output.recent[-1].startswith(f"{RECENT_LINES_MAX + 4} ")
    assert max(map(len, output.recent)) == RECENT_CHARACTERS_MAX
