"""Settings of the agent: defaults, then a TOML file, then TRACKER_AGENT_* variables, then flags.

Settings are checked when they are read: a message names the setting, where it came from (file and
line, variable or flag) and what would be right. What there is to set stands in settings.py.
"""

from __future__ import annotations

import dataclasses
import difflib
import os
import re
import stat
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tracker.protocol.layout import SYSTEM_SPOOL

from .settings import (
    SECTIONS,
    Config,
    ConfigError,
    Given,
    SamplerSettings,
    ServerSettings,
    Values,
    check_value,
    fields_of,
    settings,
    url_problem,
)

ENVIRONMENT_PREFIX = "TRACKER_AGENT_"
CONFIG_VARIABLE = "TRACKER_AGENT_CONFIG"
SYSTEM_STATE_DIR = "/var/lib/tracker-agent"
#: The name under which the systemd unit hands over the key (LoadCredential=).
CREDENTIAL_NAME = "key"
KEY_BYTES_MAX = 4096


def load_config(
    file: Path | None, environment: Mapping[str, str], flags: Mapping[tuple[str, str], Any], user_id: int
) -> Config:
    """Return checked settings. flags maps (section, name) to a value; user_id decides the defaults."""
    values: Values = {}
    if file is not None:
        values.update(parse_file(read_file(file), str(file)))
    values.update(parse_environment(environment))
    values.update({name: Given(value, "the command line") for name, value in flags.items()})

    sections: dict[str, Any] = {}
    for section, kind in SECTIONS.items():
        given = {name: value for (owner, name), value in values.items() if owner == section}
        sections[section] = kind(**{name: check_value(section, name, each) for name, each in given.items()})
    warnings = _warnings(file, values)
    config = Config(**sections, file=file, warnings=tuple(warnings))
    config = _with_places(config, environment, user_id)
    _check_server(config.server, values)
    config = dataclasses.replace(config, server=_with_key(config.server, values, environment, warnings))
    _check_sampler(config.sampler, values)
    return dataclasses.replace(config, warnings=tuple(warnings))


def read_file(file: Path) -> str:
    """Return the text of a config file."""
    try:
        return file.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"cannot read the config file {file}: {error.strerror or error}; check path and permissions"
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file}: not UTF-8 text (byte {error.start}); save the file as UTF-8") from error


def parse_file(text: str, source: str) -> Values:
    """Return the values in the text of a config file."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{source}: not valid TOML: {_toml_place(error, text)}") from error
    values: Values = {}
    for section, content in document.items():
        where = _where(source, text, section, None)
        if section not in SECTIONS:
            raise ConfigError(f"{where}: unknown section [{section}]{_known(section, list(SECTIONS))}")
        if not isinstance(content, dict):
            raise ConfigError(
                f"{where}: {section} must be a section; write [{section}] and its settings below"
            )
        for name, value in content.items():
            where = _where(source, text, section, name)
            if name not in fields_of(section):
                known = _known(name, list(fields_of(section)))
                raise ConfigError(f"{where}: unknown setting {section}.{name}{known}")
            values[section, name] = Given(value, where)
    return values


def parse_environment(environment: Mapping[str, str]) -> Values:
    """Return the values in TRACKER_AGENT_<SECTION>_<NAME> variables."""
    values: Values = {}
    for variable, text in sorted(environment.items()):
        if not variable.startswith(ENVIRONMENT_PREFIX) or variable == CONFIG_VARIABLE:
            continue
        section, _, name = variable.removeprefix(ENVIRONMENT_PREFIX).lower().partition("_")
        if section not in SECTIONS or name not in fields_of(section):
            known = [f"{ENVIRONMENT_PREFIX}{owner}_{each.name}".upper() for owner, each in settings()]
            raise ConfigError(f"unknown environment variable {variable}{_known(variable, known)}")
        values[section, name] = Given(_from_text(section, name, text), f"the variable {variable}")
    return values


def _from_text(section: str, name: str, text: str) -> Any:
    """Return the text of a variable as the type its setting has, or as it is for check_value to refuse."""
    default = fields_of(section)[name].default
    if isinstance(default, tuple):
        return [part for part in text.split(os.pathsep) if part]
    if isinstance(default, bool):
        return {"true": True, "1": True, "false": False, "0": False}.get(text.lower(), text)
    if isinstance(default, float):
        try:
            return float(text)
        except ValueError:
            return text
    return text


def _with_places(config: Config, environment: Mapping[str, str], user_id: int) -> Config:
    """Fill in the state directory and the spools where nobody chose them; make all paths absolute."""
    home = environment.get("HOME") or os.path.expanduser("~")
    base = environment.get("XDG_STATE_HOME") or os.path.join(home, ".local", "state")
    state_dir = config.agent.state_dir or default_state_dir(environment, user_id)
    chosen: tuple[str, ...] = config.agent.spools
    if not chosen:
        own = os.path.join(base, "tracker", "spool")
        candidates = [environment.get("TRACKER_DIR") or "", SYSTEM_SPOOL, own if user_id else ""]
        chosen = tuple(each for each in candidates if each and os.path.isdir(each))
        chosen = chosen or (SYSTEM_SPOOL if user_id == 0 else own,)
    spools = tuple(dict.fromkeys(_absolute(each, home) for each in chosen))
    agent = dataclasses.replace(config.agent, state_dir=_absolute(state_dir, home), spools=spools)
    for spool in spools:
        if Path(agent.state_dir) == Path(spool):
            raise ConfigError(
                f"agent.state_dir and a spool are both {spool}; give the agent a directory of its own"
            )
    return dataclasses.replace(config, agent=agent)


def default_state_dir(environment: Mapping[str, str], user_id: int) -> str:
    """Return where an agent of that user keeps its state when no setting says so."""
    if environment.get("STATE_DIRECTORY"):
        # Set by systemd for units with StateDirectory=.
        return environment["STATE_DIRECTORY"].split(os.pathsep)[0]
    if user_id == 0:
        return SYSTEM_STATE_DIR
    home = environment.get("HOME") or os.path.expanduser("~")
    base = environment.get("XDG_STATE_HOME") or os.path.join(home, ".local", "state")
    return os.path.join(base, "tracker", "agent")


def _absolute(path: str, home: str) -> str:
    if path == "~" or path.startswith("~/"):
        path = home + path[1:]
    return os.path.abspath(path)


def _check_server(server: ServerSettings, values: Values) -> None:
    if not server.url:
        raise ConfigError(
            'no server: set url = "http://HOST:8600" in the section [server] of the config file, '
            f"or {ENVIRONMENT_PREFIX}SERVER_URL, or --server"
        )
    for name in ("url", "public_url"):
        text = getattr(server, name)
        if not text:
            continue
        problem = url_problem(text)
        if problem:
            source = values["server", name].source
            raise ConfigError(
                f"{source}: server.{name} {problem}; it is {text!r}, it should look like https://tracker.example.org"
            )
        object.__setattr__(server, name, text.rstrip("/"))


def _with_key(
    server: ServerSettings, values: Values, environment: Mapping[str, str], warnings: list[str]
) -> ServerSettings:
    """Read the key from its file. A key given at a higher level replaces a key file of a lower one."""
    key, file = values.get(("server", "key")), values.get(("server", "key_file"))
    if key and file:
        ranks = [_rank(key.source), _rank(file.source)]
        if ranks[0] == ranks[1]:
            raise ConfigError(f"{file.source}: both server.key and server.key_file are set; keep one")
        server = dataclasses.replace(server, **({"key_file": ""} if ranks[0] > ranks[1] else {"key": ""}))
    source = values["server", "key_file"].source if server.key_file else ""
    path = server.key_file
    if not path and not server.key and environment.get("CREDENTIALS_DIRECTORY"):
        path = os.path.join(environment["CREDENTIALS_DIRECTORY"], CREDENTIAL_NAME)
        source = "the systemd credential"
        if not os.path.exists(path):
            path = ""
    if path:
        path = _absolute(path, environment.get("HOME") or os.path.expanduser("~"))
        text = _read_key(path, source, warnings)
        server = dataclasses.replace(server, key=text, key_file=path)
    elif server.key:
        server = dataclasses.replace(server, key=_check_key(server.key, values["server", "key"].source))
    if not server.key:
        warnings.append(
            "no key: only runs whose owner stored a key of his own will be shipped; "
            "put an API key with the scope ingest into server.key_file"
        )
    return server


def _rank(source: str) -> int:
    return 2 if source == "the command line" else 1 if source.startswith("the variable ") else 0


def _read_key(path: str, source: str, warnings: list[str]) -> str:
    try:
        with open(path, "rb") as opened:
            content = opened.read(KEY_BYTES_MAX + 1)
            mode = os.fstat(opened.fileno()).st_mode
    except OSError as error:
        raise ConfigError(
            f"{source}: cannot read server.key_file {path}: {error.strerror or error}; "
            "the file must exist and be readable for the agent's user"
        ) from error
    if len(content) > KEY_BYTES_MAX:
        raise ConfigError(f"{source}: server.key_file {path} is too long for a key; it should hold one line")
    if mode & stat.S_IROTH and stat.S_ISREG(mode):
        warnings.append(f"every user can read the key in {path}; run: chmod o= {path}")
    return _check_key(content.decode("utf-8", "replace"), f"{source} ({path})")


def _check_key(text: str, source: str) -> str:
    key = text.strip()
    if not all("!" <= each <= "~" for each in key):
        raise ConfigError(f"{source}: the key holds spaces, line ends or other characters no key has")
    return key


def _check_sampler(sampler: SamplerSettings, values: Values) -> None:
    if sampler.window_s < sampler.interval_s:
        given = values.get(("sampler", "window_s")) or values["sampler", "interval_s"]
        raise ConfigError(
            f"{given.source}: sampler.window_s ({sampler.window_s:g}) must not be shorter than "
            f"sampler.interval_s ({sampler.interval_s:g})"
        )


def _warnings(file: Path | None, values: Values) -> list[str]:
    key = values.get(("server", "key"))
    if file is None or key is None or not key.source.startswith(str(file)):
        return []
    try:
        mode = file.stat().st_mode
    except OSError:
        return []
    return [f"every user can read the key in {file}; run: chmod o= {file}"] if mode & stat.S_IROTH else []


def _known(word: str, known: list[str]) -> str:
    close = difflib.get_close_matches(word, known, 1)
    return f"; did you mean {close[0]}?" if close else f"; known: {', '.join(known)}"


def _toml_place(error: tomllib.TOMLDecodeError, text: str) -> str:
    """Return the parser's message with the line it means, also at the end of the file."""
    message = str(error)
    if "(at end of document)" in message:
        return message.replace("at end of document", f"at line {max(1, len(text.splitlines()))}, the end")
    return message


def _where(source: str, text: str, section: str, name: str | None) -> str:
    """Return "file, line n" of a setting. tomllib keeps no positions, so plain spellings are searched."""
    current = ""
    for number, line in enumerate(text.splitlines(), 1):
        heading = re.match(r"\s*\[\s*([\w.\"'-]+)\s*\]", line)
        if heading:
            current = heading.group(1).strip("\"'")
        top = rf"\s*[\"']?{re.escape(section)}[\"']?\s*[=.]"
        if name is None and (current == section or re.match(top, line)):
            return f"{source}, line {number}"
        if name is not None:
            key = rf"\s*[\"']?{re.escape(name)}[\"']?\s*="
            dotted = rf"\s*{re.escape(section)}\s*\.\s*[\"']?{re.escape(name)}[\"']?\s*="
            if (current == section and re.match(key, line)) or (not current and re.match(dotted, line)):
                return f"{source}, line {number}"
    return source
