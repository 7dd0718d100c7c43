"""reference/agent-settings.md: every setting of the agent and of its collectors."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from tracker_agent.commands import run
from tracker_agent.config import ENVIRONMENT_PREFIX
from tracker_agent.settings import (
    COLLECTORS,
    SECTIONS,
    CollectorSettings,
    collector_kinds,
    fields_of,
)

from .samples import texts
from .settings_page import Shown, bounds, entry, value

_HEAD = """\
# Settings of the agent

The settings of `tracker-agent` stand in a TOML file, `/etc/tracker/agent.toml` for the system's agent; each has a
variable of the environment, some have a flag of `tracker-agent run`. A flag stands before a variable, a variable before the
file, the file before the default ([how they are found](../agent.md#settings)). `tracker-agent check-config` checks them all
and shows each with its value and where that comes from.

*Reload*: a change takes effect with `systemctl reload tracker-agent` (SIGHUP). *Restart*: with a restart of the agent;
shipping goes on where it stopped, and nothing is lost by either. Sizes are bytes, or texts such as `"64 MiB"`.

"""
_INTRODUCTIONS = {
    "agent": "Where the agent keeps and finds things, and how it speaks.",
    "server": "Where records go, with which key, and how to get there. "
    "[More on the way to the server](../agent.md#the-way-to-the-server). Further servers, which runs may choose, "
    "have sections `[servers.NAME]` with the same settings, and no variables.",
    "limits": "What the agent never takes more of.",
    "retention": "How long files stay that the server has.",
    "files": "Files of runs: saved ones, media, code.",
    "sampler": "How the machine is measured. Each collector has [a section of its own](#collectors).",
    "crash": "Evidence of why a training process ended.",
    "metrics": "Figures of the agent and of the machine, for Prometheus.",
}


def page() -> str:
    """Return the page."""
    return "".join(_lines())


def _lines() -> Iterator[str]:
    yield _HEAD
    said = texts("agent.toml")
    flags = {(section, name): flag for flag, section, name, _ in run.FLAGS}
    for section in SECTIONS:
        yield f"## [{section}] {{ #{section} }}\n\n{_INTRODUCTIONS[section]}\n\n"
        for name, each in fields_of(section).items():
            text = said.get((section, name)) or f"{each.metadata['text']}."
            yield from entry(_shown(section, name, each, text, flags.get((section, name), "")))
    yield from _collectors()


def _collectors() -> Iterator[str]:
    yield (
        "## [collectors.NAME] { #collectors }\n\n"
        "One section for each [collector](../host-metrics.md), all put into force by a reload. Every collector has\n\n"
    )
    common = {each.name: each for each in dataclasses.fields(CollectorSettings)}
    for name, each in common.items():
        text = f"{each.metadata['text'].capitalize()}."
        yield from entry(_shown("collectors.NAME", name, each, text, ""))
    for kind in sorted(collector_kinds()):
        section = f"{COLLECTORS}.{kind}"
        for name, each in fields_of(section).items():
            if name not in common:
                yield from entry(_shown(section, name, each, f"{each.metadata['text'].capitalize()}.", ""))


def _shown(section: str, name: str, each: dataclasses.Field[Any], text: str, flag: str) -> Shown:
    metadata = each.metadata
    facts = [] if "Default: " in text else [("default", value(each.default, name))]
    if metadata["choices"]:
        facts.append(("one of", ", ".join(f'`"{choice}"`' for choice in metadata["choices"])))
    if metadata["bounds"]:
        low, high = metadata["bounds"]
        facts.append(("range", bounds(low, high, name)))
    variable = f"{ENVIRONMENT_PREFIX}{section.replace('.', '_')}_{name}".upper().replace("_NAME_", "_*NAME*_")
    facts.append(("variable", f"`{variable.replace('*', '')}`" + _separator(each)))
    if flag:
        facts.append(
            ("flag", f"`{flag}`" + (", which may be repeated" if isinstance(each.default, tuple) else ""))
        )
    if metadata["secret"]:
        facts.append(("secret", "never shown, neither in logs nor in `check-config`"))
    facts.append(("takes effect", "reload" if metadata["reload"] else "restart"))
    return Shown(f"{section}.{name}", text, facts)


def _separator(each: dataclasses.Field[Any]) -> str:
    if not isinstance(each.default, tuple):
        return ""
    return " (one on each line)" if each.metadata["separator"] == "\n" else " (separated by colons)"
