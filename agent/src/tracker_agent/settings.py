"""The settings there are: each is declared once, with its bounds and what it is for.

docs/agent.md and the sample config are checked against these declarations. Reading them from files,
variables and flags is config.py's part.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit


class ConfigError(Exception):
    """A setting that cannot be used. The message names it and says what would be right."""


def _setting(
    default: Any,
    text: str,
    choices: tuple[str, ...] = (),
    bounds: tuple[float, float] | None = None,
    secret: bool = False,
    reload: bool = False,
) -> Any:
    """Declare a setting; `reload` ones change on SIGHUP, the others when the agent is restarted."""
    metadata = {"text": text, "choices": choices, "bounds": bounds, "reload": reload}
    return field(default=default, repr=not secret, metadata=metadata)


@dataclass(frozen=True)
class AgentSettings:
    """Where the agent keeps and finds things, and how it speaks."""

    state_dir: str = _setting("", "the agent's own directory; one agent per directory")
    spools: tuple[str, ...] = _setting((), "directories that training processes write into")
    scan_interval_s: float = _setting(0.5, "how often the spools are looked through", bounds=(0.05, 60))
    watch: str = _setting("auto", "wake up by inotify between scans", choices=("auto", "on", "off"))
    log_format: str = _setting("auto", "how the log is written", choices=("auto", "json", "console"))
    log_level: str = _setting(
        "info", "the least important thing logged", choices=("debug", "info", "warning", "error"), reload=True
    )


@dataclass(frozen=True)
class ServerSettings:
    """Where records go, and with which key."""

    url: str = _setting("", "address of the Tracker server", reload=True)
    key: str = _setting("", "API key with the scope ingest", secret=True, reload=True)
    key_file: str = _setting("", "file that holds the key, instead of key", reload=True)
    public_url: str = _setting("", "address people open, where it is not url", reload=True)


@dataclass(frozen=True)
class SamplerSettings:
    """How the machine is measured."""

    enabled: bool = _setting(True, "whether the machine is measured at all", reload=True)
    interval_s: float = _setting(2.0, "time between two samples", bounds=(0.1, 3600), reload=True)
    window_s: float = _setting(30.0, "time that one shipped window covers", bounds=(0.1, 3600), reload=True)
    gpu: str = _setting("auto", "measure NVIDIA GPUs", choices=("auto", "off"), reload=True)


@dataclass(frozen=True)
class Config:
    """Everything the agent is told from outside, checked."""

    agent: AgentSettings = field(default_factory=AgentSettings)
    server: ServerSettings = field(default_factory=ServerSettings)
    sampler: SamplerSettings = field(default_factory=SamplerSettings)
    file: Path | None = None
    #: What works, but should be looked at.
    warnings: tuple[str, ...] = ()

    def with_agent(self, agent: AgentSettings, log_level: str) -> Config:
        """Return this configuration with another's section [agent], whose log level may differ."""
        return dataclasses.replace(self, agent=dataclasses.replace(agent, log_level=log_level))

    @property
    def state_dir(self) -> Path:
        """The agent's own directory."""
        return Path(self.agent.state_dir)

    @property
    def spools(self) -> tuple[Path, ...]:
        """Directories that training processes write into."""
        return tuple(Path(spool) for spool in self.agent.spools)

    @property
    def public_url(self) -> str:
        """The address people open."""
        return self.server.public_url or self.server.url


SECTIONS: dict[str, type[Any]] = {
    "agent": AgentSettings,
    "server": ServerSettings,
    "sampler": SamplerSettings,
}


def settings() -> Iterator[tuple[str, dataclasses.Field[Any]]]:
    """Yield (section, field) of every setting there is."""
    for section, kind in SECTIONS.items():
        for each in dataclasses.fields(kind):
            yield section, each


class Given(NamedTuple):
    """A value somebody chose, and where."""

    value: Any
    source: str


Values = dict[tuple[str, str], Given]


def check_value(section: str, name: str, given: Given) -> Any:
    """Return a value in the type of its setting. Raise ConfigError when it is not one of those allowed."""
    declared = fields_of(section)[name]
    default: Any = declared.default
    value = given.value
    what = f"{given.source}: {section}.{name}"
    if isinstance(default, tuple):
        if not isinstance(value, list | tuple) or not all(isinstance(each, str) and each for each in value):
            raise ConfigError(f'{what} must be a list of strings, such as ["/var/spool/tracker"]')
        return tuple(value)
    choices = declared.metadata["choices"]
    if choices:
        if isinstance(value, bool) and "off" in choices:
            value = ("on" if "on" in choices else choices[0]) if value else "off"
        if value not in choices:
            raise ConfigError(f"{what} must be one of {', '.join(choices)}; it is {value!r}")
        return value
    if isinstance(default, float) and type(value) is int:
        value = float(value)
    if type(value) is not type(default):
        kind = {float: "a number", bool: "true or false", str: "a string in quotes"}[type(default)]
        raise ConfigError(f"{what} must be {kind}; it is {value!r}")
    if declared.metadata["bounds"]:
        low, high = declared.metadata["bounds"]
        if not math.isfinite(value) or not low <= value <= high:
            raise ConfigError(f"{what} must be from {low:g} to {high:g}; it is {value:g}")
    if isinstance(value, str) and "\0" in value:
        raise ConfigError(f"{what} holds a NUL character; remove it")
    return value


def url_problem(text: str) -> str | None:
    """Return what is wrong with a server's address, or None."""
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        return f"is no address ({error})"
    if parts.scheme not in ("http", "https"):
        return "must begin with http:// or https://"
    if not parts.hostname or port == 0 or re.search(r"[\s\x00-\x1f]", text):
        return "names no host" if not parts.hostname else "is no address"
    if parts.username is not None or parts.password is not None:
        return "must not hold a user name or password (put the key into server.key_file)"
    if parts.query or parts.fragment:
        return "must not have a query or fragment"
    return None


def restart_needed(old: Config, new: Config) -> list[str]:
    """Return the names of changed settings that only a restart puts into force."""
    return [
        f"{section}.{each.name}"
        for section, each in settings()
        if not each.metadata["reload"]
        and getattr(getattr(old, section), each.name) != getattr(getattr(new, section), each.name)
    ]


def fields_of(section: str) -> dict[str, dataclasses.Field[Any]]:
    """Return the settings of a section by name."""
    return {each.name: each for each in dataclasses.fields(SECTIONS[section])}
