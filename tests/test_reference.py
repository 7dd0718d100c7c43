"""The pages of docs/reference are as the code is; so no setting, flag or message is missing there."""

import re
from pathlib import Path

import pytest

from docs.generator import commands, messages, server_settings, shim_settings
from docs.generator.pages import COMMAND, REFERENCE, pages
from tracker_agent.settings import settings as agent_settings
from tracker_server.config import load_settings

PAGES = pages()


@pytest.mark.parametrize("name", PAGES)
def test_page_is_as_the_code_is(name: str) -> None:
    assert (REFERENCE / name).read_text() == PAGES[name], f"out of date; run: {COMMAND}"


def test_there_are_no_pages_that_nobody_makes() -> None:
    assert {page.name for page in REFERENCE.iterdir()} == set(PAGES)


def test_every_setting_of_the_agent_has_an_entry() -> None:
    entries = re.findall(r"^### `([\w.]+)`", PAGES["agent-settings.md"], re.MULTILINE)

    assert {f"{section}.{each.name}" for section, each in agent_settings()} <= set(entries)


def test_every_setting_of_the_server_has_an_entry_with_a_text_of_its_own() -> None:
    loaded = load_settings(None, {}, {("", "data"): "/data"})
    wanted = {
        f"{section}.{name}"
        for section in ("http", "log", "limits")
        for name in vars(getattr(loaded, section))
    }
    entries = re.findall(r"^### `([\w.]+)` .*\n\n(.*)\n", PAGES["server-settings.md"], re.MULTILINE)
    texts = [text for _, text in entries]

    assert {name for name, _ in entries} == wanted | {"data"}
    assert all(texts)
    assert len(set(texts)) == len(texts)


def test_every_variable_that_the_shim_asks_for_has_an_entry() -> None:
    entries = re.findall(r"^- variable: `(\w+)`", PAGES["shim-settings.md"], re.MULTILINE)

    assert set(entries) == shim_settings.variables_anywhere()


def test_a_setting_that_is_not_described_stops_the_generator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(shim_settings._TEXTS, "console")

    with pytest.raises(SystemExit, match="console"):
        shim_settings.page()


def test_messages_are_gathered_from_what_code_says(tmp_path: Path) -> None:
    (tmp_path / "said.py").write_text(
        '''"""No docstring of a module is a message, however long."""
def check(path, mode):
    """Nor one of a function that checks."""
    if not path:
        raise ConfigError(f"no path: give one in {mode!r} " "or do without it")
    log.info("a word of the log for those who read it")
    return "cannot use %s: it is %d bytes long" % (path, 5)
def complain():
    terminal.say("nothing can be written there, make room")
'''
    )

    assert messages.sentences(tmp_path / "said.py") == [
        "no path: give one in … or do without it",
        "cannot use …: it is … bytes long",
        "nothing can be written there, make room",
    ]


def test_modules_whose_messages_are_gathered_exist() -> None:
    assert not [
        name for topic in messages.TOPICS for name in topic.modules if not (messages.ROOT / name).exists()
    ]


def test_pages_of_commands_name_every_command() -> None:
    assert "## tracker-agent check-config" in commands.agent_page()
    assert "## tracker-server key revoke" in commands.server_page()
    assert "## tracker restore" in commands.tracker_page()
    assert "TRACKER_SERVER_DATA" in server_settings.page()
