"""Every page of docs/reference by name. tests/test_reference.py fails where a page is not as the code is."""

from __future__ import annotations

from pathlib import Path

from . import agent_settings, commands, server_settings, shim_settings

REFERENCE = Path(__file__).resolve().parents[1] / "reference"
PACKAGING = Path(__file__).resolve().parents[2] / "packaging"
COMMAND = "python -m docs.generator"


def pages() -> dict[str, str]:
    """Return the text of each page by its file name."""
    made = {
        "agent-settings.md": agent_settings.page(),
        "server-settings.md": server_settings.page(),
        "shim-settings.md": shim_settings.page(),
        "agent-commands.md": commands.agent_page(),
        "server-commands.md": commands.server_page(),
        "tracker-commands.md": commands.tracker_page(),
    }
    return {name: _with_notice(text) for name, text in made.items()}


def _with_notice(text: str) -> str:
    title, _, rest = text.partition("\n\n")
    return f"{title}\n\nMade from the code by `{COMMAND}`; change it there.\n\n{rest}"
