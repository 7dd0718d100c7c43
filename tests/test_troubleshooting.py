"""docs/troubleshooting.md has every reason to leave a stream alone, and quotes what programs really say."""

import ast
import functools
import re
from pathlib import Path

import pytest

from tests.support.imports import SOURCES
from tracker_agent.attention import _REMEDIES
from tracker_agent.health import Verdict
from tracker_agent.lanes import NO_LANE

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs/troubleshooting.md").read_text()
AGENT = ROOT / "agent/src/tracker_agent"
#: Answers about one stream that the agent acts upon itself, without parking it.
NOT_PARKED = {"hole"}


def codes_of_the_agent() -> set[str]:
    """Return the codes in calls such as park(stream, "stuck", …), and Parked("…")."""
    found = {NO_LANE}
    for file in AGENT.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "attr", "") in ("park", "Parked"):
                found |= {each.value for each in node.args[1:2] if isinstance(each, ast.Constant)}
    return found


def codes_of_the_server() -> set[str]:
    """Return the codes with which a server refuses one stream, as docs/protocol.md lists them."""
    protocol = (ROOT / "docs/protocol.md").read_text()
    table = protocol.partition("| error | meaning | agent |")[2].partition("\n\n")[0]
    return set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) - NOT_PARKED


@functools.cache
def said_anywhere() -> str:
    """Return every text in our code, one on each line, with … for what is filled in."""
    from docs.generator.messages import sentences

    files = [file for source in SOURCES for file in (ROOT / source).rglob("*.py")]
    return "\n".join(text for file in files for text in sentences(file, words_min=1))


def test_every_reason_to_park_a_stream_has_a_section() -> None:
    sections = set(re.findall(r"^### parked: ([a-z_ ]+?)(?: \{.*\})?$", PAGE, re.MULTILINE))
    codes = codes_of_the_agent() | codes_of_the_server()

    assert {"stuck", "no key", "forbidden", "server error"} <= codes
    assert sections == codes
    assert set(_REMEDIES) <= sections


@pytest.mark.parametrize("state", re.findall(r"(\w+)(?:, | or |\.)", str(Verdict.__doc__).partition(":")[2]))
def test_every_state_of_health_is_told_in_the_page_of_the_agent(state: str) -> None:
    assert f"| `{state}` |" in (ROOT / "docs/agent.md").read_text()


def quoted() -> list[str]:
    """Return the messages in the first columns of the page's tables and in its headings."""
    lines = [line for line in PAGE.splitlines() if line.startswith(("| `", "| a ", "### `", "### …", "| …"))]
    firsts = [line.split(" | ")[0] if line.startswith("|") else line for line in lines]
    found = [text for first in firsts for text in re.findall(r"`([^`]+)`", first)]
    return [text for text in found if len(text.split()) > 2 and "tracker" not in text.split()[0]]


@pytest.mark.parametrize("message", quoted())
def test_quoted_messages_are_said_by_the_code(message: str) -> None:
    said = said_anywhere()

    parts = [part.strip(" :;,") for part in re.split(r"…|\d+", message)]

    assert not [part for part in parts if len(part.split()) > 2 and part not in said], message
