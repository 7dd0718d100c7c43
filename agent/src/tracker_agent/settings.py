"""The settings there are: each is declared once, with its bounds and what it is for.

docs/agent.md and the sample config are checked against these declarations. Reading them from files,
variables and flags is config.py's part.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from .config_file import ConfigError as ConfigError  # noqa: PLC0414 - passes the name on
from .config_file import Problem, Source, refusal
from .setting_values import (
    GIB,
    KIB,
    MIB,
    UidMap,
    header_problem,
    listen_problem,
    parse_size,
    parse_uid_range,
    show_size,
    uid_range_problem,
)

#: The server of the section [server], which takes the runs that ask for no other.
DEFAULT_SERVER = "default"
#: The proxy that says: none, whatever the environment says.
NO_PROXY = "none"

_BYTES_MAX = 2**60


def setting(
    default: Any,
    text: str,
    choices: tuple[str, ...] = (),
    bounds: tuple[float, float] | None = None,
    secret: bool = False,
    reload: bool = False,
    separator: str = ":",
    example: str = "/var/spool/tracker",
    problem: Callable[[str], str | None] | None = None,
) -> Any:
    """Declare a setting; `reload` ones change on SIGHUP, the others when the agent is restarted.

    separator: what stands between the elements of a list in an environment variable. example: what an
    element of a list may look like. problem(text): what is wrong with a text, or with an element of a list.
    """
    metadata = {
        "text": text, "choices": choices, "bounds": bounds, "reload": reload, "secret": secret,
        "separator": separator, "example": example, "problem": problem,
    }  # fmt: skip
    return field(default=default, repr=not secret, metadata=metadata)


@dataclass(frozen=True)
class AgentSettings:
    """Where the agent keeps and finds things, and how it speaks."""

    state_dir: str = setting("", "the agent's own directory; one agent per directory")
    spools: tuple[str, ...] = setting((), "directories that training processes write into")
    scan_interval_s: float = setting(0.5, "how often the spools are looked through", bounds=(0.05, 60))
    watch: str = setting("auto", "wake up by inotify between scans", choices=("auto", "on", "off"))
    log_format: str = setting("auto", "how the log is written", choices=("auto", "json", "console"))
    log_level: str = setting(
        "info", "the least important thing logged", choices=("debug", "info", "warning", "error"), reload=True
    )
    allow_stop: bool = setting(True, "whether the server may ask runs that allow it to stop")
    retry_max_s: float = setting(300.0, "the longest wait before a server is tried again", bounds=(1, 3600))
    uid_map: tuple[str, ...] = setting(
        (),
        "whose runs those of containers' uids are, OWNER[-OWNER]=UID",
        example="100000-165535=1000",
        problem=uid_range_problem,
    )


@dataclass(frozen=True)
class ServerSettings:
    """Where records go, with which key, and how to get there. Paths are absolute once they are loaded."""

    url: str = setting("", "address of the Tracker server", reload=True)
    key: str = setting("", "API key with the scope ingest", secret=True, reload=True)
    key_file: str = setting("", "file that holds the key, instead of key", reload=True)
    public_url: str = setting("", "address people open, where it is not url", reload=True)
    ca_file: str = setting(
        "", "certificates (PEM) of the authorities to trust, instead of the system's", reload=True
    )
    client_cert: str = setting("", "certificate (PEM) that the agent shows the server", reload=True)
    client_key: str = setting("", "private key of client_cert, where it is in another file", reload=True)
    proxy: str = setting("", "proxy on the way, http:// or https://; none: never one", reload=True)
    proxy_user: str = setting("", "name for the proxy", reload=True)
    proxy_password_file: str = setting("", "file that holds the password for the proxy", reload=True)
    headers: tuple[str, ...] = setting(
        (), "further headers of each request, Name: value", secret=True, reload=True, separator="\n",
        example="X-Team: ml", problem=header_problem,
    )  # fmt: skip
    # Not settings: what loading them found out.
    section: str = "server"  #: where these settings stand, for messages
    proxy_password: str = field(default="", repr=False)  #: from the environment's proxy address
    #: Variable of the environment that a value comes from, by setting.
    variables: tuple[tuple[str, str], ...] = ()

    def name_of(self, setting: str) -> str:
        """Return what a message calls a setting: "server.proxy", or the variable it was taken from."""
        variable = dict(self.variables).get(setting)
        return f"the variable {variable}" if variable else f"{self.section}.{setting}"


@dataclass(frozen=True)
class SamplerSettings:
    """How the machine is measured."""

    enabled: bool = setting(True, "whether the machine is measured at all", reload=True)
    interval_s: float = setting(2.0, "time between two samples", bounds=(0.1, 3600), reload=True)
    window_s: float = setting(30.0, "time that one shipped window covers", bounds=(0.1, 3600), reload=True)
    gpu: str = setting("auto", "measure NVIDIA GPUs", choices=("auto", "off"), reload=True)


@dataclass(frozen=True)
class CollectorSettings:
    """One collector: the sections [collectors.NAME]."""

    enabled: str = setting(
        "auto", "whether it runs; auto: where there is something", choices=("auto", "on", "off"), reload=True
    )
    interval_s: float = setting(
        0.0, "time between two samples; 0: as the collector says", bounds=(0, 3600), reload=True
    )


@dataclass(frozen=True)
class LimitSettings:
    """What the agent never takes more of. Sizes in bytes."""

    memory_bytes: int = setting(
        32 * MIB,
        "memory for records in flight, all servers together",
        bounds=(4 * MIB, _BYTES_MAX),
        reload=True,
    )
    open_files: int = setting(512, "files of runs held open", bounds=(16, 1_000_000), reload=True)
    backfill_bytes_per_s: int = setting(
        16 * MIB, "how fast old data goes out beside live data", bounds=(KIB, _BYTES_MAX), reload=True
    )
    state_bytes: int = setting(
        256 * MIB, "disk for the agent's own streams", bounds=(MIB, _BYTES_MAX), reload=True
    )
    spool_bytes_per_user: int = setting(
        0, "disk for one user's runs in a spool; 0: no limit", bounds=(0, _BYTES_MAX), reload=True
    )
    spool_bytes: int = setting(0, "disk for a whole spool; 0: no limit", bounds=(0, _BYTES_MAX), reload=True)


@dataclass(frozen=True)
class RetentionSettings:
    """How long files stay that the server has."""

    shipped_s: float = setting(
        604800.0,
        "how long a run stays after its end, once the server has all of it",
        bounds=(0, 1e9),
        reload=True,
    )


@dataclass(frozen=True)
class FileSettings:
    """Files of runs: saved ones, media, code."""

    enabled: bool = setting(True, "whether files of runs are shipped", reload=True)
    bytes_per_s: int = setting(16 * MIB, "how fast files go out", bounds=(KIB, _BYTES_MAX), reload=True)
    bytes_max: int = setting(
        64 * GIB, "the largest file that is shipped", bounds=(0, _BYTES_MAX), reload=True
    )


@dataclass(frozen=True)
class MetricsSettings:
    """Figures of the agent and of the machine, for Prometheus."""

    listen: str = setting(
        "",
        "where they are served, HOST:PORT or unix:/PATH; empty: nowhere",
        reload=True,
        problem=listen_problem,
    )
    allow_remote: bool = setting(False, "whether other machines may read them", reload=True)
    host: str = setting(
        "on", "serve the machine's figures, too, as node_exporter would", choices=("on", "off"), reload=True
    )
    per_core: bool = setting(True, "processor times of each core, not only of all together", reload=True)


@dataclass(frozen=True)
class CrashSettings:
    """Evidence of why a training process ended."""

    kernel_log: str = setting("auto", "look into the kernel's log", choices=("auto", "off"), reload=True)


@dataclass(frozen=True)
class Config:
    """Everything the agent is told from outside, checked."""

    agent: AgentSettings = field(default_factory=AgentSettings)
    server: ServerSettings = field(default_factory=ServerSettings)
    limits: LimitSettings = field(default_factory=LimitSettings)
    retention: RetentionSettings = field(default_factory=RetentionSettings)
    files: FileSettings = field(default_factory=FileSettings)
    sampler: SamplerSettings = field(default_factory=SamplerSettings)
    crash: CrashSettings = field(default_factory=CrashSettings)
    metrics: MetricsSettings = field(default_factory=MetricsSettings)
    #: The sections [servers.NAME], which users may choose, by name.
    further_servers: Mapping[str, ServerSettings] = field(default_factory=dict)
    #: The sections [collectors.NAME] that are there, by name.
    collectors: Mapping[str, CollectorSettings] = field(default_factory=dict)
    file: Path | None = None
    #: What works, but should be looked at.
    looked_at: tuple[Problem, ...] = ()
    #: Where each value was given that is no default.
    sources: Mapping[tuple[str, str], Source] = field(default_factory=dict, compare=False)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What works, but should be looked at, as sentences."""
        return tuple(map(str, self.looked_at))

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

    @property
    def servers(self) -> dict[str, ServerSettings]:
        """Every server that runs may go to, by name; DEFAULT_SERVER takes those that ask for no other."""
        return {DEFAULT_SERVER: self.server, **self.further_servers}

    @property
    def uid_map(self) -> UidMap:
        """Whose runs those of containers' uids are."""
        return UidMap(parse_uid_range(each) for each in self.agent.uid_map)

    def section(self, name: str) -> Any:
        """Return the settings of a section; name as in section_names()."""
        table, dot, key = name.partition(".")
        if not dot:
            return getattr(self, name)
        if table == SERVERS:
            return self.further_servers[key]
        return self.collectors.get(key) or collector_kinds()[key].Settings()

    def section_names(self) -> list[str]:
        """Return the names of all sections: further servers behind [server], collectors behind [sampler]."""
        names: list[str] = []
        for section in SECTIONS:
            names.append(section)
            if section == "server":
                names += [f"{SERVERS}.{name}" for name in self.further_servers]
            if section == "sampler":
                names += [f"{COLLECTORS}.{name}" for name in collector_kinds()]
        return names


SECTIONS: dict[str, type[Any]] = {
    "agent": AgentSettings,
    "server": ServerSettings,
    "limits": LimitSettings,
    "retention": RetentionSettings,
    "files": FileSettings,
    "sampler": SamplerSettings,
    "crash": CrashSettings,
    "metrics": MetricsSettings,
}
#: The table of further servers: [servers.NAME] has the settings of [server].
SERVERS = "servers"
#: The table of the settings of collectors: [collectors.NAME].
COLLECTORS = "collectors"


def collector_kinds() -> Mapping[str, Any]:
    """Return the classes of all collectors, by name."""
    # Here, because they are built on this module, and most commands need none of them.
    from .collectors import chosen

    return chosen.COLLECTORS


def settings() -> Iterator[tuple[str, dataclasses.Field[Any]]]:
    """Yield (section, field) of every setting there is; those of [servers.NAME] are those of [server]."""
    for section in SECTIONS:
        for each in fields_of(section).values():
            yield section, each


class Given(NamedTuple):
    """A value somebody chose, and where."""

    value: Any
    source: Source


Values = dict[tuple[str, str], Given]


def check_value(section: str, name: str, given: Given) -> Any:
    """Return a value in the type of its setting. Raise ConfigError when it is not one of those allowed."""
    declared = fields_of(section)[name]
    default: Any = declared.default
    value = given.value
    if isinstance(default, tuple):
        return _check_list(declared, value, section, given.source)
    shown = "of another type" if declared.metadata["secret"] else repr(value)
    choices = declared.metadata["choices"]
    if choices:
        if isinstance(value, bool) and "off" in choices:
            value = ("on" if "on" in choices else choices[0]) if value else "off"
        if value not in choices:
            raise _refusal(section, name, given, f"is {shown}", f"it must be one of {', '.join(choices)}")
        return value
    if isinstance(default, float) and type(value) is int:
        value = float(value)
    if _is_size(name) and isinstance(value, str):
        value = parse_size(value)
    if type(value) is not type(default):
        raise _refusal(section, name, given, f"is {shown}", f"it must be {_kind(name, default)}")
    if declared.metadata["bounds"]:
        low, high = declared.metadata["bounds"]
        if not math.isfinite(value) or not low <= value <= high:
            show = show_size if _is_size(name) else "{:g}".format
            todo = f"it must be from {show(low)} to {show(high)}"
            raise _refusal(section, name, given, f"is {value:g}", todo)
    if isinstance(value, str) and "\0" in value:
        raise _refusal(section, name, given, "holds a NUL character", "remove it")
    find_problem = declared.metadata["problem"]
    problem = find_problem(value) if find_problem and value else None
    if problem:
        raise _refusal(section, name, given, f"is {value!r}", f"it {problem}")
    return value


def _kind(name: str, default: Any) -> str:
    """Return what a setting must be."""
    if isinstance(default, bool):
        return "true or false"
    if isinstance(default, str):
        return "a string in quotes"
    if isinstance(default, float):
        return "a number" + (", in seconds and without a unit" if name.endswith("_s") else "")
    return "a whole number" + (' or a size such as "64 MiB"' if _is_size(name) else "")


def _check_list(
    declared: dataclasses.Field[Any], value: Any, section: str, source: Source
) -> tuple[str, ...]:
    given = Given(value, source)
    example = f'["{declared.metadata["example"]}"]'
    if not isinstance(value, list | tuple) or not all(isinstance(each, str) and each for each in value):
        raise _refusal(
            section,
            declared.name,
            given,
            "is something else",
            f"it must be a list of strings, such as {example}",
        )
    find_problem = declared.metadata["problem"]
    for each in value:
        problem = find_problem(each) if find_problem else None
        if problem:
            raise _refusal(section, declared.name, given, f"cannot be used: {problem}", f"such as {example}")
    return tuple(value)


def _refusal(section: str, name: str, given: Given, what: str, todo: str) -> ConfigError:
    setting = f"{section}.{name}"
    return refusal(f"{setting} {what}", todo, given.source, setting)


def _is_size(name: str) -> bool:
    return "bytes" in name.split("_")


def restart_needed(old: Config, new: Config) -> list[str]:
    """Return the names of changed settings that only a restart puts into force."""
    return [
        f"{section}.{each.name}"
        for section, each in settings()
        if not each.metadata["reload"]
        and getattr(getattr(old, section), each.name) != getattr(getattr(new, section), each.name)
    ]


def fields_of(section: str) -> dict[str, dataclasses.Field[Any]]:
    """Return the settings of a section by name; also of servers.NAME and collectors.NAME."""
    table, dot, name = section.partition(".")
    kind: type[Any]
    if not dot:
        kind = SECTIONS[section]
    elif table == SERVERS:
        kind = ServerSettings
    else:
        kind = collector_kinds()[name].Settings
    return {each.name: each for each in dataclasses.fields(kind) if each.metadata}
