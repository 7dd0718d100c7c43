"""The agent's log: floods are cut and counted, the last lines stay in memory."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tracker_agent import systemd
from tracker_agent.journal_output import ENTRIES_MAX, JournalOutput
from tracker_agent.log import Log
from tracker_agent.log_flood import MESSAGES_MAX, SAME_MAX, SIMILAR_MAX, WINDOW_S, FloodGate
from tracker_agent.log_output import RECENT_CHARACTERS_MAX, RECENT_LINES_MAX, LogOutput


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


# The journal


def as_under_systemd(monkeypatch: pytest.MonkeyPatch, send: Callable[[Sequence[bytes]], None] | None) -> None:
    monkeypatch.setattr(systemd, "journal_reads", lambda *_: True)
    monkeypatch.setattr(systemd, "journal_send", lambda: send)


def test_journal_gets_a_line_for_people_and_fields_for_searches(monkeypatch: pytest.MonkeyPatch) -> None:
    entries: list[Sequence[bytes]] = []
    as_under_systemd(monkeypatch, entries.append)
    log = Log("auto", "info", {})

    log.logger.warning("server away", reason="no route: 10.0.0.1", tries=3, Server_1="s")
    log.close()

    (entry,) = entries
    assert dict(field.decode().split("=", 1) for field in entry) == {
        "MESSAGE": 'server away reason="no route: 10.0.0.1" tries=3 Server_1=s',
        "PRIORITY": "4",
        "SYSLOG_IDENTIFIER": "tracker-agent",
        "TRACKER_EVENT": "server away",
        "TRACKER_REASON": "no route: 10.0.0.1",
        "TRACKER_TRIES": "3",
        "TRACKER_SERVER_1": "s",
    }
    assert list(log.output.recent) == ['server away reason="no route: 10.0.0.1" tries=3 Server_1=s']


def test_traceback_stands_below_the_line_in_the_journal(monkeypatch: pytest.MonkeyPatch) -> None:
    entries: list[Sequence[bytes]] = []
    as_under_systemd(monkeypatch, entries.append)
    log = Log("auto", "info", {})

    try:
        raise ValueError("what went wrong\udc80")
    except ValueError as error:
        log.logger.error("it failed", exc_info=error)
    log.close()

    lines = entries[0][0].decode().splitlines()
    assert lines[:2] == ["MESSAGE=it failed", "Traceback (most recent call last):"]
    assert "what went wrong" in lines[-1]


def test_journald_that_stands_still_holds_up_nobody_and_what_it_does_not_take_is_counted() -> None:
    takes = threading.Event()
    taken: list[Sequence[bytes]] = []

    def send(entry: Sequence[bytes]) -> None:
        takes.wait(60)
        taken.append(entry)

    output = JournalOutput(send)

    for n in range(2 * ENTRIES_MAX):
        output.msg(f"{n}")
    takes.set()
    output.close()

    assert output.dropped in (ENTRIES_MAX, ENTRIES_MAX - 1), "one may be under way"
    assert [entry[0] for entry in taken[:2]] == [b"MESSAGE=0", b"MESSAGE=1"]
    assert len(taken) + output.dropped == 2 * ENTRIES_MAX


def test_journald_that_refuses_is_no_reason_to_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Sequence[bytes]) -> None:
        raise ConnectionRefusedError

    as_under_systemd(monkeypatch, refuse)
    log = Log("auto", "info", {})

    log.logger.info("one")
    log.logger.info("two")
    log.close()

    assert log.output.dropped == 2


def test_journal_without_systemd_python_gets_json_and_a_word_about_it(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    as_under_systemd(monkeypatch, None)
    log = Log("auto", "info", {})

    log.logger.warning("server away")

    first, second = capfd.readouterr().err.splitlines()
    assert first.startswith("<6>{")
    assert "systemd-python is not installed: install python3-systemd" in json.loads(first[3:])["message"]
    assert json.loads(second.removeprefix("<4>"))["message"] == "server away"
