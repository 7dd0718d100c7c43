"""Settings of the server: defaults, then a TOML file, then TRACKER_SERVER_* variables, then flags.

Every limit on what a client may send or keep busy has its name here. Settings are checked when they are read,
all of them at once, so that a server that starts is a server whose settings make sense.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import math
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from .config_file import COMMAND_LINE, Problem, Problems, Source, of_variable, read_toml, refusal, suggestion
from .config_file import ConfigError as ConfigError  # noqa: PLC0414 - passes the name on

MIB = 1024 * 1024
_NUMBER_MAX = 2**60


def setting(
    default: Any,
    text: str,
    choices: tuple[str, ...] = (),
    bounds: tuple[float, float] = (1, _NUMBER_MAX),
) -> Any:
    """Declare a setting with what it is for; bounds hold for numbers."""
    return field(default=default, metadata={"text": text, "choices": choices, "bounds": bounds})


@dataclass(frozen=True)
class HttpSettings:
    """Where the server listens and under which names it may be addressed."""

    host: str = setting("127.0.0.1", "address to listen on; 127.0.0.1: this machine only")
    port: int = setting(8600, "port to listen on; 0: any that is free", bounds=(0, 65535))
    public_url: str = setting(
        "", "address people open, where it is not http://host:port (a proxy, TLS, a name)"
    )
    allowed_hosts: tuple[str, ...] = setting(
        (), "host names that requests may carry, besides IP addresses, localhost and this machine's name"
    )
    shutdown_s: float = setting(
        8.0, "how long requests in flight may take to finish after SIGTERM", bounds=(0.001, 3600)
    )


@dataclass(frozen=True)
class LogSettings:
    """How the server writes its own log (to stderr)."""

    format: str = setting("auto", "how the log is written", choices=("auto", "json", "console"))
    level: str = setting(
        "info", "the least important thing logged", choices=("debug", "info", "warning", "error")
    )


@dataclass(frozen=True)
class LimitSettings:
    """Bounds on what clients send and on how much work waits."""

    ingest_request_bytes: int = setting(32 * MIB, "one ingest request as it comes, compressed or not")
    ingest_decompressed_bytes: int = setting(64 * MIB, "the same request decompressed")
    ingest_bytes_in_flight: int = setting(
        256 * MIB, "ingest requests, compressed and not, held in memory at once; more gets 503"
    )
    ingest_queue: int = setting(64, "requests waiting for the writer; more gets 503 with Retry-After")
    json_request_bytes: int = setting(2 * MIB, "one request with a JSON body")
    blob_bytes: int = setting(64 * 1024 * MIB, "one file of a run")
    blob_reserve_bytes: int = setting(
        1024 * MIB, "disk kept free for records: files that would leave less are refused with 503"
    )
    uploads: int = setting(
        10_000, "files that have arrived in part, in all; the oldest of the same principal go first"
    )
    uploads_per_principal: int = setting(2_000, "files of one principal that have arrived in part")
    upload_bytes: int = setting(256 * 1024 * MIB, "bytes of files that have arrived in part, in all")
    upload_bytes_per_principal: int = setting(
        128 * 1024 * MIB, "bytes of one principal's files that have arrived in part"
    )
    read_threads: int = setting(4, "reads running at once, a thread each", bounds=(1, 1024))
    read_queue: int = setting(128, "reads waiting for a thread; more gets 503")
    live_subscribers: int = setting(1000, "open live connections (browser tabs), in all")
    live_subscribers_per_principal: int = setting(100, "open live connections of one principal")
    signin_failures_per_minute: int = setting(
        10, "failed sign-ins per minute and client address; more gets 429"
    )


@dataclass(frozen=True)
class Settings:
    """Everything the server is told from outside."""

    data: Path
    http: HttpSettings = field(default_factory=HttpSettings)
    log: LogSettings = field(default_factory=LogSettings)
    limits: LimitSettings = field(default_factory=LimitSettings)
    #: Where each value was given that is no default; section "" holds `data`.
    sources: Mapping[tuple[str, str], Source] = field(default_factory=dict, compare=False)

    @property
    def public_url(self) -> str:
        """Return the address people open, without a slash at the end."""
        return self.http.public_url or f"http://{url_host(self.http.host)}:{self.http.port}"

    @property
    def loopback_only(self) -> bool:
        """Return whether only this machine can reach the server."""
        return is_loopback(self.http.host)


SECTIONS: dict[str, type[Any]] = {"http": HttpSettings, "log": LogSettings, "limits": LimitSettings}
ENVIRONMENT_PREFIX = "TRACKER_SERVER_"
#: What the setting outside all sections is for.
DATA_TEXT = "directory that holds everything the server keeps"


class Given(NamedTuple):
    """A value somebody chose, and where."""

    value: Any
    source: Source


Values = dict[tuple[str, str], Given]


def load_settings(
    file: Path | None, environment: Mapping[str, str], flags: Mapping[tuple[str, str], Any]
) -> Settings:
    """Return checked settings. flags maps (section, name) to a value; section "" holds `data`.

    Raises ConfigError with a line for each problem, which names the setting and where it came from.
    """
    problems = Problems()
    settings = examine_settings(file, environment, flags, problems)
    if settings is None or problems.errors:
        raise ConfigError(*problems.errors)
    return settings


def examine_settings(
    file: Path | None,
    environment: Mapping[str, str],
    flags: Mapping[tuple[str, str], Any],
    problems: Problems,
) -> Settings | None:
    """Return what can be made of the settings, with defaults for what cannot be used, and note all problems.

    None: there is no data directory, or the file says nothing that can be understood.
    """
    values: Values = {}
    try:
        values = _read_file(file, problems) if file is not None else {}
    except ConfigError as error:
        problems.found += error.problems
        return None
    values |= _read_environment(environment, problems)
    values |= {name: Given(value, COMMAND_LINE) for name, value in flags.items()}

    sections: dict[str, Any] = {}
    for section, kind in SECTIONS.items():
        checked = {}
        for (owner, name), given in values.items():
            if owner == section:
                with problems.noted():
                    checked[name] = _checked(section, name, given)
        sections[section] = kind(**checked)
    data = Path()
    with problems.noted():
        data = _data(values)
    settings = Settings(data=data, **sections, sources={name: each.source for name, each in values.items()})
    with problems.noted():
        settings = _with_public_url(settings)
    _check_whole(settings, problems)
    return settings if data != Path() else None


def _data(values: Values) -> Path:
    given = values.get(("", "data"))
    if given is None or given.value == "":
        raise refusal(
            "no data directory",
            'give --data DIR, TRACKER_SERVER_DATA or `data = "DIR"` above the sections of the config file',
            setting="data",
        )
    if not isinstance(given.value, str | Path):
        todo = 'write it as a text in quotes: data = "/var/lib/tracker-server"'
        raise refusal(f"data is {given.value!r}, so there is no data directory", todo, given.source, "data")
    return Path(given.value).expanduser()


def _read_file(file: Path, problems: Problems) -> Values:
    toml = read_toml(file)
    values: Values = {}
    for section, content in toml.document.items():
        source = toml.source(section)
        if section == "data":
            values["", "data"] = Given(content, source)
        elif section not in SECTIONS:
            problems.found += _unknown_section(section, content, source).problems
        elif not isinstance(content, dict):
            what, todo = f"[{section}] must be a section", f"write [{section}] and its settings below"
            problems.found += refusal(what, todo, source, section).problems
        else:
            for name, value in content.items():
                source = toml.source(section, name)
                if name in names_of(section):
                    values[section, name] = Given(value, source)
                else:
                    what = f"unknown setting {section}.{name}"
                    problems.found += refusal(
                        what, _nearest(section, name), source, f"{section}.{name}"
                    ).problems
    return values


def _unknown_section(section: str, content: Any, source: Source) -> ConfigError:
    owners = [owner for owner in SECTIONS if section in names_of(owner)]
    if owners and not isinstance(content, dict):
        todo = f"put it below [{owners[0]}], which has to stand above it"
        return refusal(f"the setting {section} stands in no section", todo, source)
    return refusal(f"unknown section {section!r}", suggestion(section, ["data", *SECTIONS]), source)


def _nearest(section: str, name: str) -> str:
    if name == "data":
        return "it belongs above all sections"
    owners = [owner for owner in SECTIONS if name in names_of(owner)]
    return f"it belongs into [{owners[0]}]" if owners else suggestion(name, sorted(names_of(section)))


def _read_environment(environment: Mapping[str, str], problems: Problems) -> Values:
    values: Values = {}
    known = {f"{section}_{name}": (section, name) for section in SECTIONS for name in names_of(section)}
    known["data"] = ("", "data")
    for variable, text in sorted(environment.items()):
        rest = variable.removeprefix(ENVIRONMENT_PREFIX).lower()
        if not variable.startswith(ENVIRONMENT_PREFIX) or rest == "config":
            continue
        if rest in known:
            section, name = known[rest]
            values[section, name] = Given(_from_text(section, name, text), of_variable(variable))
        else:
            spelt = [f"{ENVIRONMENT_PREFIX}{each}".upper() for each in known]
            problems.found += refusal(f"unknown variable {variable}", suggestion(variable, spelt)).problems
    return values


def names_of(section: str) -> dict[str, dataclasses.Field[Any]]:
    """Return the settings of a section by name."""
    return {each.name: each for each in dataclasses.fields(SECTIONS[section])}


def _from_text(section: str, name: str, text: str) -> Any:
    """Return the text of a variable as the type of its setting, or as it is for _checked to refuse."""
    if section == "":
        return text
    default = names_of(section)[name].default
    if isinstance(default, tuple):
        return [part.strip() for part in text.split(",") if part.strip()]
    try:
        return {int: int, float: float}.get(type(default), str)(text)
    except ValueError:
        return text


def _checked(section: str, name: str, given: Given) -> Any:
    declared = names_of(section)[name]
    default: Any = declared.default
    value, what = given.value, f"{section}.{name}"

    def wrong(todo: str) -> ConfigError:
        return refusal(f"{what} is {value!r}", todo, given.source, what)

    if isinstance(default, tuple):
        if not isinstance(value, list | tuple) or any(not isinstance(each, str) for each in value):
            raise wrong('it must be a list of strings, such as ["tracker.example.org"]')
        return tuple(value)
    if isinstance(default, float) and type(value) is int:
        value = float(value)
    if type(value) is not type(default):
        raise wrong(f"it must be {_kind(name, default)}")
    choices = declared.metadata["choices"]
    if choices and value not in choices:
        raise wrong(f"it must be one of {', '.join(choices)}")
    low, high = declared.metadata["bounds"]
    if isinstance(value, int | float) and not (math.isfinite(value) and low <= value <= high):
        raise wrong(
            f"it must be {f'at least {low:g}' if high == _NUMBER_MAX else f'from {low:g} to {high:g}'}"
        )
    return value


def _kind(name: str, default: Any) -> str:
    unit = (
        " of bytes"
        if "bytes" in name.split("_")
        else ", in seconds and without a unit"
        if name.endswith("_s")
        else ""
    )
    return {int: "a whole number", float: "a number", str: "a string in quotes"}[type(default)] + unit


def _with_public_url(settings: Settings) -> Settings:
    text = settings.http.public_url
    if not text:
        return settings
    try:
        parts = urlsplit(text)
        fine = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        fine = fine and parts.path in ("", "/") and not (parts.query or parts.fragment or parts.username)
    except ValueError:
        fine = False
    if not fine:
        raise refusal(
            f"http.public_url is {text!r}",
            "it must look like https://tracker.example.org",
            settings.sources.get(("http", "public_url")),
            "http.public_url",
        )
    return dataclasses.replace(settings, http=dataclasses.replace(settings.http, public_url=text.rstrip("/")))


def _check_whole(settings: Settings, problems: Problems) -> None:
    """Note what cannot be used together."""

    def wrong(section: str, name: str, what: str, todo: str) -> None:
        source, setting = settings.sources.get((section, name)), f"{section}.{name}"
        problems.found.append(Problem(what, todo, source, setting))

    limits = settings.limits
    if not settings.http.host:
        wrong("http", "host", "http.host is empty", "127.0.0.1 keeps the server on this machine")
    for name in settings.http.allowed_hosts:
        if not re.fullmatch(r"[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?", name):
            what = f"http.allowed_hosts: {name!r} is no host name"
            wrong("http", "allowed_hosts", what, "names alone, without http://, port or *")
    if limits.ingest_bytes_in_flight < limits.ingest_decompressed_bytes:
        what = "limits.ingest_bytes_in_flight is less than limits.ingest_decompressed_bytes"
        wrong("limits", "ingest_bytes_in_flight", what, "let it hold one request at least, better four")
    if limits.ingest_decompressed_bytes < limits.ingest_request_bytes:
        what = "limits.ingest_decompressed_bytes is less than limits.ingest_request_bytes"
        wrong(
            "limits",
            "ingest_decompressed_bytes",
            what,
            "requests grow when they are decompressed: twice as much",
        )
    for part, whole in (
        ("uploads_per_principal", "uploads"),
        ("upload_bytes_per_principal", "upload_bytes"),
        ("live_subscribers_per_principal", "live_subscribers"),
    ):
        if getattr(limits, part) > getattr(limits, whole) and ("limits", part) in settings.sources:
            what = f"limits.{part} is more than limits.{whole}"
            wrong("limits", part, what, "one principal cannot have more than all together")


def is_loopback(host: str) -> bool:
    """Return whether an address to bind is reachable from this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def url_host(host: str) -> str:
    """Return how an address is written in a URL that this machine can open."""
    if host in ("0.0.0.0", "::", ""):  # noqa: S104 - read here, not bound
        return socket.gethostname()
    return f"[{host}]" if ":" in host else host
