"""Settings of the agent: defaults, then a TOML file, then TRACKER_AGENT_* variables, then flags.

Settings are checked when they are read, all of them at once: each message names the setting, where it came
from (file and line, variable or flag) and what would be right. What there is to set stands in settings.py.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tracker.protocol.layout import SYSTEM_SPOOL

from .config_check import check_together, look_at
from .config_file import (
    COMMAND_LINE,
    ConfigError,
    Problems,
    Source,
    TomlFile,
    of_variable,
    read_toml,
    refusal,
    suggestion,
)
from .server_settings import absolute, check_servers, load_server
from .settings import (
    COLLECTORS,
    DEFAULT_SERVER,
    SECTIONS,
    SERVERS,
    Config,
    Given,
    Values,
    check_value,
    collector_kinds,
    fields_of,
)

ENVIRONMENT_PREFIX = "TRACKER_AGENT_"
CONFIG_VARIABLE = "TRACKER_AGENT_CONFIG"
SYSTEM_STATE_DIR = "/var/lib/tracker-agent"


def load_config(
    file: Path | None,
    environment: Mapping[str, str],
    flags: Mapping[tuple[str, str], Any],
    user_id: int,
) -> Config:
    """Return checked settings. flags maps (section, name) to a value; user_id decides the defaults.

    Raise ConfigError with everything that is wrong.
    """
    problems = Problems()
    config = examine_config(file, environment, flags, user_id, problems)
    if config is None or problems.errors:
        raise ConfigError(*problems.errors)
    return config


def examine_config(
    file: Path | None,
    environment: Mapping[str, str],
    flags: Mapping[tuple[str, str], Any],
    user_id: int,
    problems: Problems,
    credentials: Mapping[str, str] | None = None,
) -> Config | None:
    """Return what can be made of the settings, with defaults for what cannot be used, and note all problems.

    None: the file says nothing that can be understood. credentials: API keys that systemd will hand over to
    the agent, by name.
    """
    values = parse_environment(environment, problems)
    if file is not None:
        try:
            values = parse_file(read_toml(file), problems) | values
        except ConfigError as error:
            problems.found += error.problems
            return None
    values.update({name: Given(value, COMMAND_LINE) for name, value in flags.items()})

    sections = {section: _section(section, kind, values, problems) for section, kind in SECTIONS.items()}
    config = _with_places(Config(**sections, file=file), environment, user_id)
    server = load_server("server", values, environment, problems, credentials)
    further = {
        name: load_server(section, values, environment, problems, credentials)
        for name, section in _sections_of(SERVERS, values).items()
    }
    check_servers(server, further, values, problems)
    collectors = {
        name: _section(section, collector_kinds()[name].Settings, values, problems)
        for name, section in _sections_of(COLLECTORS, values).items()
    }
    config = dataclasses.replace(
        config,
        server=server,
        further_servers=further,
        collectors=collectors,
        sources={name: given.source for name, given in values.items()},
    )
    check_together(config, problems)
    look_at(config, values, problems)
    return dataclasses.replace(config, looked_at=problems.warnings)


def _sections_of(table: str, values: Values) -> dict[str, str]:
    """Return the sections TABLE.NAME that have values, by NAME."""
    sections = [owner for owner, _ in values if owner.startswith(f"{table}.")]
    return {section.partition(".")[2]: section for section in sections}


def _section(section: str, kind: type[Any], values: Values, problems: Problems) -> Any:
    if section == "server":
        return kind()  # load_server() checks it, and has more to check
    checked = {}
    for (owner, name), given in values.items():
        if owner == section:
            with problems.noted():
                checked[name] = check_value(section, name, given)
    return kind(**checked)


def parse_file(file: TomlFile, problems: Problems) -> Values:
    """Return the values in a config file, and note what there cannot be."""
    values: Values = {}
    for section, content in file.document.items():
        if section not in (SERVERS, COLLECTORS):
            with problems.noted():
                if section not in SECTIONS:
                    raise _unknown_section(file, section, content)
                values |= _parse_section(section, content, file, problems)
            continue
        for name, further in content.items() if isinstance(content, dict) else [("NAME", None)]:
            with problems.noted():
                if isinstance(content, dict):
                    _check_name(section, name, file.source(f"{section}.{name}"))
                values |= _parse_section(f"{section}.{name}", further, file, problems)
    return values


def _unknown_section(file: TomlFile, section: str, content: Any) -> ConfigError:
    source = file.source(section)
    if not isinstance(content, dict):
        owners = [owner for owner in SECTIONS if section in fields_of(owner)]
        if owners:
            belongs = f"put it below [{owners[0]}], which has to stand above it"
            what = f"the setting {section} stands in no section"
            return refusal(what, belongs, source, f"{owners[0]}.{section}")
    known = suggestion(section, [*SECTIONS, SERVERS, COLLECTORS])
    return refusal(f"unknown section [{section}]", known, source)


def _check_name(table: str, name: str, source: Source) -> None:
    """Refuse a section [servers.NAME] or [collectors.NAME] that there cannot be."""
    if table == COLLECTORS:
        if name not in collector_kinds():
            known = suggestion(name, list(collector_kinds()))
            raise refusal(f"there is no collector {name!r}", known, source)
    elif not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,31}", name) or name == DEFAULT_SERVER:
        raise refusal(
            f"a further server cannot be called {name!r}",
            f"a name has 1 to 32 of a-z 0-9 - and is not {DEFAULT_SERVER!r}",
            source,
        )


def _parse_section(section: str, content: Any, file: TomlFile, problems: Problems) -> Values:
    if not isinstance(content, dict):
        table, dot, name = section.partition(".")
        source = file.source(table, name if dot and name != "NAME" else None)
        raise refusal(
            f"{section} must be a section", f"write [{section}] and its settings below", source, section
        )
    values: Values = {}
    for name, value in content.items():
        source = file.source(section, name)
        if name in fields_of(section):
            values[section, name] = Given(value, source)
        else:
            known = _nearest(section, name)
            setting = f"{section}.{name}"
            problems.found += refusal(f"unknown setting {setting}", known, source, setting).problems
    if (
        section.startswith(f"{SERVERS}.")
        and "url" not in content
        and content.keys() <= set(fields_of(section))
    ):
        raise refusal(f"[{section}] has no url", 'add url = "https://HOST"', file.source(section), section)
    return values


def _nearest(section: str, name: str) -> str:
    """Return what to do about an unknown setting: where it belongs, or the name that it looks like."""
    owners = [owner for owner in SECTIONS if name in fields_of(owner)]
    return f"it belongs into [{owners[0]}]" if owners else suggestion(name, list(fields_of(section)))


def parse_environment(environment: Mapping[str, str], problems: Problems) -> Values:
    """Return the values in TRACKER_AGENT_<SECTION>_<NAME> variables, and note those that there are not."""
    values: Values = {}
    for variable, text in sorted(environment.items()):
        if not variable.startswith(ENVIRONMENT_PREFIX) or variable == CONFIG_VARIABLE:
            continue
        known = _variables(variable.startswith(f"{ENVIRONMENT_PREFIX}COLLECTORS_"))
        if variable not in known:
            unknown = refusal(f"unknown environment variable {variable}", suggestion(variable, list(known)))
            problems.found += unknown.problems
            continue
        section, name = known[variable]
        values[section, name] = Given(_from_text(section, name, text), of_variable(variable))
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
