"""Settings of the server: defaults, then a TOML file, then TRACKER_SERVER_* variables, then flags.

Every limit on what a client may send or keep busy has its name here. Settings are checked when
they are read, so that a server that starts is a server whose settings make sense.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import socket
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

MIB = 1024 * 1024


class ConfigError(Exception):
    """A setting that cannot be used. The message names it and says what would be right."""


@dataclass(frozen=True)
class HttpSettings:
    """Where the server listens and under which names it may be addressed."""

    host: str = "127.0.0.1"
    port: int = 8600
    #: The address people open, when it is not http://host:port (a proxy, TLS, a DNS name).
    public_url: str = ""
    #: Host names, besides IP addresses, localhost and this machine's name, that requests may carry.
    allowed_hosts: tuple[str, ...] = ()
    #: How long requests in flight may take to finish after SIGTERM.
    shutdown_s: float = 8.0


@dataclass(frozen=True)
class LogSettings:
    """How the server writes its own log (to stderr)."""

    format: str = "auto"
    level: str = "info"


@dataclass(frozen=True)
class LimitSettings:
    """Bounds on what clients send and on how much work waits."""

    ingest_request_bytes: int = 32 * MIB
    ingest_decompressed_bytes: int = 64 * MIB
    #: Bytes of ingest requests, compressed and not, held in memory at once; more gets 503.
    ingest_bytes_in_flight: int = 256 * MIB
    #: Requests waiting for the writer; more gets 503 with Retry-After.
    ingest_queue: int = 64
    json_request_bytes: int = 2 * MIB
    blob_bytes: int = 64 * 1024 * MIB
    #: Files are refused (503) where they would leave less of the disk free: records come first.
    blob_reserve_bytes: int = 1024 * MIB
    #: Files that have arrived in part, in all and of one principal; the oldest of his own go first.
    uploads: int = 10_000
    uploads_per_principal: int = 2_000
    upload_bytes: int = 256 * 1024 * MIB
    upload_bytes_per_principal: int = 128 * 1024 * MIB
    #: Reads running at once (threads), and waiting for one; more gets 503.
    read_threads: int = 4
    read_queue: int = 128
    live_subscribers: int = 1000
    live_subscribers_per_principal: int = 100
    #: Failed sign-ins per minute and client address; more gets 429.
    signin_failures_per_minute: int = 10


@dataclass(frozen=True)
class Settings:
    """Everything the server is told from outside."""

    data: Path
    http: HttpSettings = field(default_factory=HttpSettings)
    log: LogSettings = field(default_factory=LogSettings)
    limits: LimitSettings = field(default_factory=LimitSettings)

    @property
    def public_url(self) -> str:
        """Return the address people open, without a slash at the end."""
        return self.http.public_url or f"http://{url_host(self.http.host)}:{self.http.port}"

    @property
    def loopback_only(self) -> bool:
        """Return whether only this machine can reach the server."""
        return is_loopback(self.http.host)


_SECTIONS: dict[str, type[Any]] = {"http": HttpSettings, "log": LogSettings, "limits": LimitSettings}
_CHOICES = {
    ("log", "format"): ("auto", "json", "console"),
    ("log", "level"): ("debug", "info", "warning", "error"),
}
ENVIRONMENT_PREFIX = "TRACKER_SERVER_"


def load_settings(
    file: Path | None, environment: Mapping[str, str], flags: Mapping[tuple[str, str], Any]
) -> Settings:
    """Return checked settings. flags maps (section, name) to a value; section "" holds `data`.

    Raises ConfigError with one line that names the setting and where it came from.
    """
    values: dict[tuple[str, str], tuple[Any, str]] = {}
    if file is not None:
        values.update(_read_file(file))
    values.update(_read_environment(environment))
    values.update({name: (value, "the command line") for name, value in flags.items()})

    data = values.pop(("", "data"), ("", ""))[0]
    if not isinstance(data, str | Path) or not str(data):
        raise ConfigError(
            'no data directory: give --data DIR, TRACKER_SERVER_DATA or `data = "DIR"` in the config file'
        )
    sections = {}
    for section, kind in _SECTIONS.items():
        given = {
            name: _checked(section, name, value, source)
            for (owner, name), (value, source) in values.items()
            if owner == section
        }
        sections[section] = kind(**given)
    settings = Settings(data=Path(data).expanduser(), **sections)
    _check_whole(settings)
    return settings


def _read_file(file: Path) -> dict[tuple[str, str], tuple[Any, str]]:
    try:
        document = tomllib.loads(file.read_text())
    except OSError as error:
        raise ConfigError(f"cannot read the config file {file}: {error.strerror or error}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} is not valid TOML: {error}") from error
    values: dict[tuple[str, str], tuple[Any, str]] = {}
    for section, content in document.items():
        if section == "data":
            values["", "data"] = (content, str(file))
        elif section not in _SECTIONS:
            raise ConfigError(f"{file}: unknown section {section!r}; known: data, {', '.join(_SECTIONS)}")
        elif not isinstance(content, dict):
            raise ConfigError(f"{file}: [{section}] must be a section")
        else:
            for name, value in content.items():
                if name not in _names(section):
                    known = ", ".join(sorted(_names(section)))
                    raise ConfigError(f"{file}: unknown setting {section}.{name}; known: {known}")
                values[section, name] = (value, str(file))
    return values


def _read_environment(environment: Mapping[str, str]) -> dict[tuple[str, str], tuple[Any, str]]:
    values: dict[tuple[str, str], tuple[Any, str]] = {}
    for variable, text in environment.items():
        if not variable.startswith(ENVIRONMENT_PREFIX):
            continue
        rest = variable.removeprefix(ENVIRONMENT_PREFIX).lower()
        if rest in ("data", "config"):
            if rest == "data":
                values["", "data"] = (text, variable)
            continue
        section, _, name = rest.partition("_")
        if section not in _SECTIONS or name not in _names(section):
            raise ConfigError(
                f"unknown variable {variable}; {ENVIRONMENT_PREFIX}<SECTION>_<NAME> as in the config file"
            )
        values[section, name] = (_from_text(section, name, text, variable), variable)
    return values


def _names(section: str) -> dict[str, Any]:
    return {each.name: each.default for each in dataclasses.fields(_SECTIONS[section])}


def _from_text(section: str, name: str, text: str, source: str) -> Any:
    default = _names(section)[name]
    try:
        if isinstance(default, int):
            return int(text)
        if isinstance(default, float):
            return float(text)
    except ValueError as error:
        raise ConfigError(f"{source}: {section}.{name} must be a number, it is {text!r}") from error
    if isinstance(default, tuple):
        return [part.strip() for part in text.split(",") if part.strip()]
    return text


def _checked(section: str, name: str, value: Any, source: str) -> Any:
    default = _names(section)[name]
    if isinstance(default, tuple):
        if not isinstance(value, list | tuple) or any(not isinstance(each, str) for each in value):
            raise ConfigError(f"{source}: {section}.{name} must be a list of strings")
        return tuple(value)
    if isinstance(default, float) and type(value) is int:
        value = float(value)
    if type(value) is not type(default):
        raise ConfigError(f"{source}: {section}.{name} must be a {_kind(default)}, it is {value!r}")
    choices = _CHOICES.get((section, name))
    if choices and value not in choices:
        raise ConfigError(f"{source}: {section}.{name} must be one of {', '.join(choices)}, it is {value!r}")
    if isinstance(value, int | float) and (not value >= 0 or (value == 0 and name != "port")):
        raise ConfigError(f"{source}: {section}.{name} must be greater than 0, it is {value!r}")
    return value


def _kind(default: Any) -> str:
    return {int: "whole number", float: "number", str: "string"}[type(default)]


def _check_whole(settings: Settings) -> None:
    if settings.http.port > 65535:
        raise ConfigError(f"http.port must be at most 65535, it is {settings.http.port}")
    if not settings.http.host:
        raise ConfigError("http.host is empty; 127.0.0.1 keeps the server on this machine")
    if settings.http.public_url:
        try:
            parts = urlsplit(settings.http.public_url)
            fine = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        except ValueError:
            fine = False
            parts = urlsplit("")
        if not fine or parts.path not in ("", "/") or parts.query or parts.fragment or parts.username:
            raise ConfigError(
                "http.public_url must look like https://tracker.example.org, "
                f"it is {settings.http.public_url!r}"
            )
        object.__setattr__(settings.http, "public_url", settings.http.public_url.rstrip("/"))


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
