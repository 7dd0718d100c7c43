"""reference/*-commands.md: every command and flag, as the parsers of the three programs have them."""

from __future__ import annotations

import argparse
import inspect
import re
from collections.abc import Iterator

from . import programs

#: Characters of a line of usage: what a page shows without scrolling.
_WIDTH = 84


def agent_page() -> str:
    """Return the page of tracker-agent."""
    head = (
        "# tracker-agent\n\nShips what training runs record, exactly once, and measures this machine. "
        "[More on these commands, with exit statuses](../agent.md#commands).\n\n"
    )
    return head + _sections(programs.agent())


def server_page() -> str:
    """Return the page of tracker-server."""
    head = (
        "# tracker-server\n\nStores what agents ship and shows it live. Exit status: 0 done, 2 it cannot work, with one line "
        "that says why. [More on these commands](../server.md#commands).\n\n"
    )
    return head + _sections(programs.server())


def tracker_page() -> str:
    """Return the page of tracker, the command that comes with the shim."""
    head = (
        "# tracker\n\nLooks after the runs recorded on this machine; it comes with the shim. Exit codes: 0 done, 1 it could not be "
        "done, 2 it was called wrongly; `tracker run` and `tracker sync` end as their program does. "
        "[More on these commands](../command.md).\n\n"
    )
    return head + _sections(programs.tracker())


def _sections(parser: argparse.ArgumentParser) -> str:
    return "".join(
        line for entry in programs.entries(parser) for line in _section(entry.parser, entry.summary)
    )


def _section(parser: argparse.ArgumentParser, summary: str = "") -> Iterator[str]:
    yield f"## {parser.prog}\n\n"
    description = " ".join((parser.description or summary).split())
    if description:
        yield f"{_sentence(description)}\n\n"
    yield "".join(f"    {line}\n" for line in _wrapped(_usage(parser))) + "\n"
    shown = [each for each in parser._actions if _is_shown(each)]
    if shown:
        yield "| argument | meaning |\n|---|---|\n"
        for action in shown:
            yield f"| {_name(action)} | {_meaning(action)} |\n"
        yield "\n"
    if parser.epilog:
        yield (
            "".join(
                f"    {line}\n" if line else "\n" for line in inspect.cleandoc(parser.epilog).splitlines()
            )
            + "\n"
        )


def _wrapped(usage: str) -> list[str]:
    """Break a long usage between its arguments."""
    parts = re.findall(r"\[[^\]]*\]|\S+", usage)
    lines = [""]
    for part in parts:
        if len(lines[-1]) + len(part) > _WIDTH:
            lines.append("   ")
        lines[-1] += f" {part}" if lines[-1] else part
    return lines


def _usage(parser: argparse.ArgumentParser) -> str:
    """Return the usage on one line, in the same words on every Python."""
    if parser.usage:
        return " ".join(parser.usage.replace("%(prog)s", parser.prog).removeprefix("usage: ").split())
    parts = [parser.prog]
    for action in filter(_is_shown, parser._actions):
        if action.option_strings:
            part = f"{action.option_strings[-1]} {_placeholder(action)}".rstrip()
            parts.append(part if action.required else f"[{part}]")
        else:
            parts.append(_placeholder(action) if action.nargs in (None, "+") else f"[{_placeholder(action)}]")
    return " ".join(parts)


def _is_shown(action: argparse.Action) -> bool:
    return not isinstance(action, argparse._HelpAction) and action.help != argparse.SUPPRESS


def _name(action: argparse.Action) -> str:
    if not action.option_strings:
        return f"`{_placeholder(action)}`"
    placeholder = _placeholder(action)
    return ", ".join(
        f"`{flag} {placeholder}`" if placeholder else f"`{flag}`" for flag in action.option_strings
    )


def _placeholder(action: argparse.Action) -> str:
    if action.nargs == 0:
        return ""
    if action.metavar is not None:
        name = action.metavar if isinstance(action.metavar, str) else " ".join(action.metavar)
    elif action.choices is not None:
        name = "{" + ",".join(str(choice) for choice in action.choices) + "}"
    else:
        name = action.dest.upper() if action.option_strings else action.dest
    return f"{name} …" if action.nargs in ("*", "+", argparse.REMAINDER) else name


def _meaning(action: argparse.Action) -> str:
    if isinstance(action, argparse._VersionAction):
        return "Show the version."
    text = _sentence((action.help or "").replace("%(default)s", str(action.default)).replace("%%", "%"))
    required = " Required." if action.option_strings and action.required else ""
    return (text + required).replace("|", "\\|").replace("<", "&lt;")


def _sentence(text: str) -> str:
    text = " ".join(text.split())
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", ":")) or not text else ".")
