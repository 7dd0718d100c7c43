"""docs/agent.md and the sample configs say what the code does: every setting, command and metric."""

from __future__ import annotations

import argparse
import dataclasses
import re
import tomllib
from collections import Counter
from pathlib import Path

import pytest

from tracker_agent import cli
from tracker_agent.collectors import table
from tracker_agent.collectors.chosen import COLLECTORS
from tracker_agent.collectors.collector import Collector
from tracker_agent.config import load_config
from tracker_agent.losses import LossReason
from tracker_agent.settings import (
    Config,
    Given,
    SamplerSettings,
    check_value,
    fields_of,
    settings,
)
from tracker_server.config import Settings, load_settings

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs/agent.md").read_text()
SAMPLE = ROOT / "deploy/agent.toml"
SERVER_SAMPLE = ROOT / "deploy/server.toml"


def uncommented(sample: Path) -> str:
    """Return a sample with every setting that is commented out put into force."""
    return re.sub(r"^# (\w+ = )", r"\1", sample.read_text(), flags=re.MULTILINE)


def test_every_command_and_flag_is_documented() -> None:
    parser = cli.make_parser()
    (commands,) = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]

    for name, command in commands.choices.items():
        assert f"`tracker-agent {name}" in DOCUMENT
        if name == "run":  # its flags are settings: docs/reference has them
            continue
        for action in command._actions:
            for flag in action.option_strings:
                assert flag in DOCUMENT or flag in ("-h", "--help"), flag


def test_table_of_metrics_is_as_the_code_declares_them() -> None:
    document = (ROOT / "docs/host-metrics.md").read_text()

    assert document == "".join(table.table()), f"out of date; run: {table.COMMAND}"


def test_every_metric_is_declared_once_and_explained() -> None:
    declared = [metric for kind in COLLECTORS.values() for metric in kind.metrics]
    # GPUs of both vendors have the same names where they measure the same.
    units = {metric.name: metric.unit for metric in COLLECTORS["nvidia"].metrics}
    once = [each for each in declared if each not in COLLECTORS["amd"].metrics or each.name not in units]

    assert [name for name, count in Counter(metric.name for metric in once).items() if count > 1] == []
    assert all(units.get(metric.name, metric.unit) == metric.unit for metric in COLLECTORS["amd"].metrics)
    for metric in declared:
        assert metric.meaning, metric.name
        assert metric.source, metric.name
        assert re.fullmatch(r"[a-z][a-z0-9_#]*(\.[a-z0-9_#]+)+", metric.name), metric.name


@pytest.mark.parametrize("kind", COLLECTORS.values(), ids=lambda kind: kind.name)
def test_collector_says_what_it_is_and_what_it_costs(kind: type[Collector]) -> None:
    assert kind.__doc__
    assert kind.cost
    assert kind.metrics


@pytest.mark.parametrize("kind", COLLECTORS.values(), ids=lambda kind: kind.name)
def test_settings_of_collectors_are_explained_and_usable_as_they_stand(kind: type[Collector]) -> None:
    section = f"collectors.{kind.name}"

    for name, each in fields_of(section).items():
        assert each.metadata["text"], name
        assert each.metadata["reload"], "a reload builds the collectors anew"
        assert check_value(section, name, Given(each.default, "the code")) == each.default


def test_every_reason_for_a_loss_is_documented_as_the_code_declares_it() -> None:
    section = DOCUMENT.partition("## What can be lost")[2].partition("\n## ")[0]
    documented = re.findall(r"^\| `(\w+)` \| (.+) \|$", section, re.MULTILINE)

    assert documented == [(reason.code, reason.sentence) for reason in LossReason]


def test_sample_config_of_the_agent_is_usable_as_it_stands(tmp_path: Path) -> None:
    config = load_config(SAMPLE, {"HOME": str(tmp_path)}, {}, 0)

    assert config.server.url == "http://127.0.0.1:8600"
    assert dataclasses.replace(config.sampler) == SamplerSettings()


def test_sample_config_of_the_agent_shows_every_setting_with_its_default() -> None:
    document = tomllib.loads(uncommented(SAMPLE))

    assert [(section, name) for section, content in document.items() for name in content] == [
        (section, each.name) for section, each in settings()
    ]
    for section, each in settings():
        if each.name not in ("url", "state_dir", "spools"):
            given = Given(document[section][each.name], "the sample")
            assert check_value(section, each.name, given) == each.default, each.name


def test_every_setting_of_the_agents_sample_is_explained() -> None:
    lines = SAMPLE.read_text().splitlines()
    names = {each.name for _, each in settings()}
    explained = 0
    for number, line in enumerate(lines):
        match = re.match(r"(?:# )?(\w+) = ", line)
        if match and match.group(1) in names:
            assert lines[number - 1].startswith("# "), line
            explained += 1
    assert explained == len(list(settings()))


def test_settings_named_in_the_default_order_are_those_of_the_code() -> None:
    assert {section for section, _ in settings()} == {
        each.name
        for each in dataclasses.fields(Config)
        if each.name not in ("further_servers", "collectors", "file", "looked_at", "sources")
    }


def test_sample_config_of_the_server_is_usable_as_it_stands() -> None:
    loaded = load_settings(SERVER_SAMPLE, {}, {})

    assert loaded == Settings(data=Path("/var/lib/tracker-server"))


def test_sample_config_of_the_server_shows_every_setting_with_its_default(tmp_path: Path) -> None:
    text = uncommented(SERVER_SAMPLE)
    (tmp_path / "server.toml").write_text(text)
    document = tomllib.loads(text)

    loaded = load_settings(tmp_path / "server.toml", {}, {})

    assert loaded == Settings(data=Path("/var/lib/tracker-server"))
    for section in ("http", "log", "limits"):
        known = [each.name for each in dataclasses.fields(getattr(loaded, section))]
        assert list(document[section]) == known


@pytest.mark.parametrize("sample", [SAMPLE, SERVER_SAMPLE], ids=lambda path: path.name)
def test_samples_hold_no_key(sample: Path) -> None:
    assert "tk_" not in sample.read_text()
