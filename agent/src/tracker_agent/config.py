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

from .server_settings import absolute, check_servers, load_server
from .setting_values import listens_to_others
from .settings import (
    COLLECTORS,
    DEFAULT_SERVER,
    SECTIONS,
    SERVERS,
    Config,
    ConfigError,
    Given,
    MetricsSettings,
    SamplerSettings,
    Values,
    check_value,
    collector_kinds,
    fields_of,
)

ENVIRONMENT_PREFIX = "TRACKER_AGENT_"
CONFIG_VARIABLE = "TRACKER_AGENT_CONFIG"
SYSTEM_STATE_DIR = "/var/lib/tracker-agent"


def load_config(
    file: Path | None, environment: Mapping[str, str], flags: Mapping[tuple[str, str], Any], user_id: int
) -> Config:
    """Return checked settings. flags maps (section, name) to a value; user_id decides the defaults."""
    values: Values = {}
    if file is not None:
        values.update(parse_file(read_file(file), str(file)))
    values.update(parse_environment(environment))
    values.update({name: Given(value, "the command line") for name, value in flags.items()})

    sections = {section: _section(section, kind, values) for section, kind in SECTIONS.items()}
    warnings = _warnings(file, values)
    config = _with_places(Config(**sections, file=file), environment, user_id)
    _check_sampler(config.sampler, values)
    _check_metrics(config.metrics, values)
    server = load_server("server", values, environment, warnings)
    further = {
        name: load_server(section, values, environment, warnings)
        for name, section in _sections_of(SERVERS, values).items()
    }
    check_servers(server, further, values)
    collectors = {
        name: _section(section, collector_kinds()[name].Settings, values)
        for name, section in _sections_of(COLLECTORS, values).items()
    }
    return dataclasses.replace(
        config,
        server=server,
        further_servers=further,
        collectors=collectors,
        warnings=tuple(warnings),
    )


def _sections_of(table: str, values: Values) -> dict[str, str]:
    """Return the sections TABLE.NAME that have values, by NAME."""
    sections = [owner for owner, _ in values if owner.startswith(f"{table}.")]
    return {section.partition(".")[2]: section for section in sections}


def _section(section: str, kind: type[Any], values: Values) -> Any:
    given = {name: value for (owner, name), value in values.items() if owner == section}
    return kind(**{name: check_value(section, name, each) for name, each in given.items()})


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
        if section in (SERVERS, COLLECTORS):
            for name, further in content.items() if isinstance(content, dict) else [("NAME", None)]:
                if isinstance(content, dict):
                    _check_name(section, name, _where(source, text, f"{section}.{name}", None))
                values |= _parse_section(f"{section}.{name}", further, text, source)
        elif section in SECTIONS:
            values |= _parse_section(section, content, text, source)
        else:
            where = _where(source, text, section, None)
            known = suggestion(section, [*SECTIONS, SERVERS, COLLECTORS])
            raise ConfigError(f"{where}: unknown section [{section}]{known}")
    return values


def _check_name(table: str, name: str, where: str) -> None:
    """Refuse a section [servers.NAME] or [collectors.NAME] that there cannot be."""
    if table == COLLECTORS:
        if name not in collector_kinds():
            known = suggestion(name, list(collector_kinds()))
            raise ConfigError(f"{where}: there is no collector {name!r}{known}")
    elif not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,31}", name) or name == DEFAULT_SERVER:
        raise ConfigError(
            f"{where}: a further server cannot be called {name!r}; a name has 1 to 32 of a-z 0-9 - "
            f"and is not {DEFAULT_SERVER!r}"
        )


def _parse_section(section: str, content: Any, text: str, source: str) -> Values:
    if not isinstance(content, dict):
        table, dot, name = section.partition(".")
        where = _where(source, text, table, name if dot and name != "NAME" else None)
        raise ConfigError(f"{where}: {section} must be a section; write [{section}] and its settings below")
    values: Values = {}
    for name, value in content.items():
        where = _where(source, text, section, name)
        if name not in fields_of(section):
            known = suggestion(name, list(fields_of(section)))
            raise ConfigError(f"{where}: unknown setting {section}.{name}{known}")
        values[section, name] = Given(value, where)
    if section.startswith(f"{SERVERS}.") and "url" not in content:
        where = _where(source, text, section, None)
        raise ConfigError(f'{where}: [{section}] has no url; add url = "https://HOST"')
    return values


def parse_environment(environment: Mapping[str, str]) -> Values:
    """Return the values in TRACKER_AGENT_<SECTION>_<NAME> variables."""
    values: Values = {}
    for variable, text in sorted(environment.items()):
        if not variable.startswith(ENVIRONMENT_PREFIX) or variable == CONFIG_VARIABLE:
            continue
        known = _variables(variable.startswith(f"{ENVIRONMENT_PREFIX}COLLECTORS_"))
        if variable not in known:
            raise ConfigError(f"unknown environment variable {variable}{suggestion(variable, list(known))}")
        section, name = known[variable]
        values[section, name] = Given(_from_text(section, name, text), f"the variable {variable}")
    return values


def _variables(of_collectors: bool) -> dict[str, tuple[str, str]]:
    """Return (section, setting) of each variable: of the collectors, or of everything else."""
    names = [f"{COLLECTORS}.{kind}" for kind in collector_kinds()] if of_collectors else SECTIONS
    return {
        f"{ENVIRONMENT_PREFIX}{section.replace('.', '_')}_{name}".upper(): (section, name)
        for section in names
        for name in fields_of(section)
    }


def _from_text(section: str, name: str, text: str) -> Any:
    """Return the text of a variable as the type its setting has, or as it is for check_value to refuse."""
    default = fields_of(section)[name].default
    if isinstance(default, tuple):
        separator = fields_of(section)[name].metadata["separator"]
        return [part for part in text.split(separator) if part]
    if isinstance(default, bool):
        return {"true": True, "1": True, "false": False, "0": False}.get(text.lower(), text)
    if isinstance(default, int):
        return int(text) if text.isdecimal() else text
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
    spools = tuple(dict.fromkeys(absolute(each, home) for each in chosen))
    agent = dataclasses.replace(config.agent, state_dir=absolute(state_dir, home), spools=spools)
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


def _check_sampler(sampler: SamplerSettings, values: Values) -> None:
    if sampler.window_s < sampler.interval_s:
        given = values.get(("sampler", "window_s")) or values["sampler", "interval_s"]
        raise ConfigError(
            f"{given.source}: sampler.window_s ({sampler.window_s:g}) must not be shorter than "
            f"sampler.interval_s ({sampler.interval_s:g})"
        )


def _check_metrics(metrics: MetricsSettings, values: Values) -> None:
    if metrics.listen and not metrics.allow_remote and listens_to_others(metrics.listen):
        source = values["metrics", "listen"].source
        raise ConfigError(
            f"{source}: metrics.listen = {metrics.listen!r} can be reached from other machines, without a "
            "password; listen on 127.0.0.1, or set metrics.allow_remote = true"
        )


def _warnings(file: Path | None, values: Values) -> list[str]:
    keys = [given for (_, name), given in values.items() if name == "key"]
    if file is None or not any(key.source.startswith(str(file)) for key in keys):
        return []
    try:
        mode = file.stat().st_mode
    except OSError:
        return []
    return [f"every user can read the key in {file}; run: chmod o= {file}"] if mode & stat.S_IROTH else []


def suggestion(word: str, known: list[str]) -> str:
    """Return the end of a message about an unknown word: the known one that it looks like, or all."""
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
        within = current == section or current.startswith(f"{section}.")
        if name is None and (within or re.match(top, line)):
            return f"{source}, line {number}"
        if name is not None:
            key = rf"\s*[\"']?{re.escape(name)}[\"']?\s*="
            dotted = rf"\s*{re.escape(section)}\s*\.\s*[\"']?{re.escape(name)}[\"']?\s*="
            if (current == section and re.match(key, line)) or (not current and re.match(dotted, line)):
                return f"{source}, line {number}"
    return source
