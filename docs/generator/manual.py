"""packaging/man: the manual pages of the programs and their config files, in man(7).

Commands and flags come from the parsers, settings from their declarations and the comments of deploy/*.toml; what
is said besides stands in manual_texts.py.
"""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import re
import textwrap
from collections.abc import Iterable, Iterator
from typing import Any

from tracker_agent import settings as agent_settings
from tracker_agent.config import ENVIRONMENT_PREFIX
from tracker_server import config as server_config

from . import manual_texts, programs, settings_page
from .samples import texts


def pages() -> dict[str, str]:
    """Return the text of each page by its file name."""
    return {
        "tracker-agent.1": _program(programs.agent(), manual_texts.AGENT),
        "tracker-server.1": _program(programs.server(), manual_texts.SERVER),
        "tracker.1": _program(programs.tracker(), manual_texts.TRACKER),
        "tracker-agent.toml.5": _settings(manual_texts.AGENT_TOML, _agent_settings()),
        "tracker-server.toml.5": _settings(manual_texts.SERVER_TOML, _server_settings()),
    }


def _program(parser: argparse.ArgumentParser, page: manual_texts.Page) -> str:
    lines = [
        *_head(page),
        ".SH SYNOPSIS",
        f"\\fB{_escaped(parser.prog)}\\fR \\fICOMMAND\\fR [\\fIARGUMENT\\fR ...]",
    ]
    lines += [".SH DESCRIPTION", *_paragraphs(page.description), ".SH COMMANDS"]
    for entry in programs.entries(parser):
        lines += _command(entry)
    return _joined([*lines, *_sections(page)])


def _command(entry: programs.Entry) -> Iterator[str]:
    yield f".SS {_escaped(entry.name)}"
    text = " ".join((entry.parser.description or entry.summary).split())
    yield _line(text[:1].upper() + text[1:] + ("" if text.endswith(".") else "."))
    for action in entry.parser._actions:
        if isinstance(action, argparse._HelpAction) or action.help == argparse.SUPPRESS:
            continue
        yield ".TP"
        yield _argument(action)
        help_text = (action.help or "").replace("%(default)s", str(action.default)).replace("%%", "%")
        yield _line(help_text[:1].upper() + help_text[1:] + "." if help_text else "See above.")
    if entry.parser.epilog:
        yield from _epilog(entry.parser.epilog.strip("\n"))


def _epilog(text: str) -> Iterator[str]:
    """Yield a text in which indented lines are examples."""
    for paragraph in text.split("\n\n"):
        lines = paragraph.splitlines()
        if all(line.startswith("    ") for line in lines):
            yield ".PP"
            yield from _example(inspect.cleandoc("\n".join(lines)))
        else:
            yield ".PP"
            yield _line(" ".join(line.strip() for line in lines))


def _argument(action: argparse.Action) -> str:
    """Return flags in bold and what they take in italics."""
    taken = ""
    if action.nargs != 0:
        if action.metavar is not None:
            taken = action.metavar if isinstance(action.metavar, str) else " ".join(action.metavar)
        elif action.choices is not None:
            taken = "{" + ",".join(map(str, action.choices)) + "}"
        else:
            taken = action.dest.upper()
        taken += " ..." if action.nargs in ("*", "+", argparse.REMAINDER) else ""
    italic = f"\\fI{_escaped(taken)}\\fR" if taken else ""
    flags = [f"\\fB{_escaped(flag)}\\fR" + (f" {italic}" if italic else "") for flag in action.option_strings]
    return ", ".join(flags) or italic


# Settings.


def _settings(page: manual_texts.Page, body: Iterable[str]) -> str:
    lines = [*_head(page), ".SH DESCRIPTION", *_paragraphs(page.description), ".SH SETTINGS", *body]
    return _joined([*lines, *_sections(page)])


def _agent_settings() -> Iterator[str]:
    said = texts("agent.toml")
    for section in agent_settings.SECTIONS:
        yield f".SS [{section}]"
        for name, each in agent_settings.fields_of(section).items():
            text = said.get((section, name)) or f"{each.metadata['text']}."
            yield from _setting(name, each, text, _facts(name, each, f"{ENVIRONMENT_PREFIX}{section}_{name}"))
    yield ".SS [servers.NAME]"
    yield _line("A further server, which runs may choose by its address, with the settings of [server].")
    yield ".SS [collectors.NAME]"
    yield _line("One collector: " + ", ".join(sorted(agent_settings.collector_kinds())) + ".")
    common = {each.name: each for each in dataclasses.fields(agent_settings.CollectorSettings)}
    for name, each in common.items():
        text = f"{each.metadata['text'].capitalize()}."
        yield from _setting(
            name, each, text, _facts(name, each, f"{ENVIRONMENT_PREFIX}collectors_NAME_{name}")
        )
    for kind in sorted(agent_settings.collector_kinds()):
        section = f"{agent_settings.COLLECTORS}.{kind}"
        own = {name: each for name, each in agent_settings.fields_of(section).items() if name not in common}
        if own:
            yield f".SS [{section}]"
        for name, each in own.items():
            text = f"{each.metadata['text'].capitalize()}."
            variable = f"{ENVIRONMENT_PREFIX}collectors_{kind}_{name}"
            yield from _setting(name, each, text, _facts(name, each, variable))


def _server_settings() -> Iterator[str]:
    said = texts("server.toml")
    yield ".TP"
    yield ".B data = \\(dq/var/lib/tracker\\-server\\(dq"
    yield _line(said["", "data"])
    yield ".br"
    yield _line(f"Variable {server_config.ENVIRONMENT_PREFIX}DATA.")
    for section in server_config.SECTIONS:
        yield f".SS [{section}]"
        for name, each in server_config.names_of(section).items():
            variable = f"{server_config.ENVIRONMENT_PREFIX}{section}_{name}"
            yield from _setting(name, each, said[section, name], _facts(name, each, variable))


def _setting(name: str, each: dataclasses.Field[Any], text: str, facts: list[str]) -> Iterator[str]:
    yield ".TP"
    yield f".B {_escaped(f'{name} = {_default(each.default)}')}"
    yield _line(text)
    yield ".br"
    yield _line("; ".join(facts) + ".")


def _facts(name: str, each: dataclasses.Field[Any], variable: str) -> list[str]:
    facts = []
    if each.metadata["choices"]:
        facts.append("One of " + ", ".join(f'"{choice}"' for choice in each.metadata["choices"]))
    elif each.metadata["bounds"] and isinstance(each.default, int | float):
        facts.append(settings_page.bounds(*each.metadata["bounds"], name))
    facts.append(
        f"{'v' if facts else 'V'}ariable {variable.replace('.', '_').upper().replace('_NAME_', '_NAME_')}"
    )
    if "reload" in each.metadata:
        facts.append("a change takes effect by a " + ("reload" if each.metadata["reload"] else "restart"))
    return facts


def _default(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return "[" + ", ".join(f'"{each}"' for each in value) + "]"
    return (
        f'"{value}"' if isinstance(value, str) else f"{value:g}" if isinstance(value, float) else str(value)
    )


# man(7).


def _head(page: manual_texts.Page) -> list[str]:
    name, section = page.name
    return [
        f'.\\" Made from the code by `{manual_texts.COMMAND}`; change it there.',
        f'.TH {_escaped(name.upper())} {section} "" "Tracker" "Tracker"',
        ".SH NAME",
        f"{_escaped(name)} \\- {_escaped(page.summary)}",
    ]


def _sections(page: manual_texts.Page) -> Iterator[str]:
    for title, parts in page.sections.items():
        yield f".SH {title}"
        yield from _paragraphs(parts)


def _paragraphs(parts: Iterable[str | tuple[str, str]]) -> Iterator[str]:
    """Yield texts as paragraphs, (name, text) as entries of a list, indented texts as examples."""
    first = True
    for part in parts:
        if isinstance(part, tuple):
            yield ".TP"
            yield f".B {_escaped(part[0])}"
            yield _line(part[1])
        elif part.startswith("    "):
            if not first:
                yield ".PP"
            yield from _example(inspect.cleandoc(part))
        else:
            if not first:
                yield ".PP"
            yield _line(part)
        first = False


def _example(text: str) -> Iterator[str]:
    yield from (".RS 4", ".nf", *(_line(line, code=True) for line in text.splitlines()), ".fi", ".RE")


def _line(text: str, code: bool = False) -> str:
    """Return a text as lines of input, `code` in bold; code=True: as one line, as it is."""
    escaped = _escaped(text)
    if code:
        lines = [escaped]
    else:
        escaped = re.sub(r"\\\(ga(.+?)\\\(ga", r"\\fB\1\\fR", escaped)
        lines = textwrap.wrap(escaped, 78, break_long_words=False, break_on_hyphens=False)
    return "\n".join(f"\\&{line}" if line.startswith((".", "'")) else line for line in lines)


def _escaped(text: str) -> str:
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("`", "\\(ga").replace("'", "\\(aq")
    return text.replace('"', "\\(dq").replace("…", "...").replace("~", "\\(ti").replace("^", "\\(ha")


def _joined(lines: Iterable[str]) -> str:
    return "\n".join(lines) + "\n"
