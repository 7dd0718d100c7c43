"""tracker-agent sample, as a person runs it: on a machine made of files."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.fixture_host import FixtureHost
from tracker_agent.collectors.chosen import COLLECTORS


def sample(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tracker_agent.cli", "sample", "--interval", "0.1", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture
def root(tmp_path: Path) -> str:
    return str(FixtureHost("intel-2s", tmp_path / "host").root)


def test_json_has_a_line_for_each_sample_of_each_collector_named(root: str) -> None:
    done = sample("cpu", "--collector", "memory", "--json", "--count", "2", "--root", root)

    assert (done.returncode, done.stderr) == (0, "")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["collector"] for line in lines] == ["cpu", "memory", "cpu", "memory"]
    for line in lines:
        assert line["state"] in ("ok", "degraded")
        assert line["took_ms"] > 0
        assert line["values"]
        assert set(line) >= {"time", "reason", "cost_ms", "problems", "events", "runs", "inventory"}
    assert lines[1]["values"]["host.memory.total.bytes"] > 10**9


def test_table_shows_value_unit_and_meaning(root: str) -> None:
    done = sample("memory", "--root", root)

    (row,) = [line for line in done.stdout.splitlines() if "host.memory.total.bytes" in line]
    metric = next(each for each in COLLECTORS["memory"].metrics if each.name == "host.memory.total.bytes")
    assert metric.meaning in row
    assert " bytes " in row
    assert done.returncode == 0


def test_without_names_all_that_an_agent_would_run_are_asked(root: str, tmp_path: Path) -> None:
    off = [name for name in COLLECTORS if name not in ("cpu", "edac", "numa")]
    config = tmp_path / "agent.toml"
    config.write_text(
        "[server]\nurl = 'http://127.0.0.1:9'\n"
        + "".join(f"[collectors.{name}]\nenabled = 'off'\n" for name in off)
    )

    done = sample("--json", "--config", str(config), "--root", root)

    assert {json.loads(line)["collector"] for line in done.stdout.splitlines()} == {"cpu", "edac", "numa"}
    assert done.returncode == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("cpuu",), "there is no collector 'cpuu'; did you mean cpu?"),
        (("cpu", "--interval", "0"), "--interval must be at least 0.1"),
        (("cpu", "--interval", "nan"), "--interval must be at least 0.1"),
        (("cpu", "--count", "-1"), "--count at least 0"),
        (("cpu", "--root", "/nowhere"), "no directory proc in /nowhere"),
    ],
)
def test_what_cannot_be_asked_for_is_refused(arguments: tuple[str, ...], said: str) -> None:
    done = sample(*arguments)

    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


def test_collector_that_was_named_and_found_nothing_is_a_failure(tmp_path: Path) -> None:
    root = str(FixtureHost("empty", tmp_path / "host").root)
    (tmp_path / "host/proc").mkdir(exist_ok=True)

    done = sample("infiniband", "--json", "--root", root)

    line = json.loads(done.stdout)
    assert (done.returncode, line["state"]) == (1, "nothing here")
    assert line["reason"]
    assert "values" not in line
