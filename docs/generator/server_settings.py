"""reference/server-settings.md: every setting of the server."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from tracker_server import config

from .samples import texts
from .settings_page import Shown, bounds, entry, value

_HEAD = """\
# Settings of the server

The settings of `tracker-server` stand in a TOML file, `/etc/tracker/server.toml` for the packaged server; each has a variable of
the environment, some have a flag of `tracker-server run`. A flag stands before a variable, a variable before the file, the file before
the default. `tracker-server check-config --config FILE` checks them all and shows them.

A change takes effect when the server is restarted. Agents notice nothing of a restart: they keep what they have and send it then.

"""
_INTRODUCTIONS = {
    "http": "Where the server listens, and under which names it may be addressed "
    "([reaching it from other machines](../server.md#reaching-it-from-other-machines)).",
    "log": "How the server writes its own log, to stderr.",
    "limits": "Bounds on what clients send and on how much work waits. What goes beyond gets 413, 429 or 503 with "
    "`Retry-After`; agents keep what they have and come back.",
}
_FLAGS = {"data": "--data", "http.host": "--host", "http.port": "--port", "http.public_url": "--public-url"}


def page() -> str:
    """Return the page."""
    return "".join(_lines())


def _lines() -> Iterator[str]:
    yield _HEAD
    said = texts("server.toml")
    yield "## At the top { #top }\n\n"
    facts = [("default", "none; required"), ("variable", "`TRACKER_SERVER_DATA`"), ("flag", "`--data`")]
    yield from entry(Shown("data", said["", "data"].replace(" Required.", ""), facts))
    for section, kind in config.SECTIONS.items():
        yield f"## [{section}] {{ #{section} }}\n\n{_INTRODUCTIONS[section]}\n\n"
        for each in dataclasses.fields(kind):
            yield from entry(_shown(section, each, said[section, each.name]))


def _shown(section: str, each: dataclasses.Field[Any], text: str) -> Shown:
    name = f"{section}.{each.name}"
    facts = [("default", value(each.default, each.name))]
    if each.metadata["choices"]:
        facts.append(("one of", ", ".join(f'`"{choice}"`' for choice in each.metadata["choices"])))
    if isinstance(each.default, int | float):
        low, high = each.metadata["bounds"]
        facts.append(("range", bounds(low, high, each.name)))
    separated = " (separated by commas)" if isinstance(each.default, tuple) else ""
    facts.append(("variable", f"`{config.ENVIRONMENT_PREFIX}{name.replace('.', '_').upper()}`{separated}"))
    if name in _FLAGS:
        facts.append(("flag", f"`{_FLAGS[name]}`"))
    return Shown(name, text, facts)
