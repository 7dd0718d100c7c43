"""tracker-agent check-config: all that is wrong with a configuration, and every setting with its value."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..config import examine_config
from ..config_file import ERROR, NOTE, Problem, Problems
from ..places_check import Viewer, look_at_places
from ..running_check import look_at_what_runs
from ..setting_values import KIB, show_size
from ..settings import Config, ServerSettings, collector_kinds, fields_of
from ..unit_check import DEFAULT_UNIT, Unit, look_at_unit, read_credentials, read_unit
from .command import EXIT_FAILED, EXIT_OK, EXIT_USAGE, Command, config_file, fail

KEY_FILE = "server.key_file"
SYSTEMD_RUNS = "/run/systemd/system"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take the file to check, and how closely."""
    parser.description = (
        "Check a configuration as the agent would load it: the file, the variables TRACKER_AGENT_*, keys and "
        "certificates, the state directory and the spools, and the systemd unit that starts an agent with "
        "this file. Every problem is told at once, each with where it is and what to do."
    )
    parser.epilog = (
        "exit status: 0 it can be used, perhaps with warnings; 1 it can be used, but there are warnings "
        "(--strict) or a server does not answer or does not take the key (--online); 2 the agent would not "
        "start with it. As root, places and keys are looked at as the user that the unit runs the agent as."
    )
    parser.add_argument("file", metavar="FILE", type=Path, nargs="?", help="the file to check")
    parser.add_argument(
        "--online", action="store_true", help="ask the servers, too: way, certificate, key, clock"
    )
    parser.add_argument(
        "--timeout", metavar="SECONDS", type=float, default=10.0, help="for the servers' answers; default: 10"
    )
    parser.add_argument("--strict", action="store_true", help="exit status 1 when there are warnings")
    parser.add_argument("--json", action="store_true", help="problems and settings, for programs")
    parser.add_argument(
        "--unit",
        metavar="NAME",
        help=f"the unit that starts the agent; default: {DEFAULT_UNIT} if it has FILE",
    )
    parser.set_defaults(config=None)


def run(options: argparse.Namespace) -> int:
    """Look at everything, then tell it."""
    file = options.file or config_file(options)
    unit = _unit(options.unit, file)
    if options.unit and unit is None:
        return fail(f"systemd has no unit {options.unit}; see `systemctl list-units --all`", EXIT_USAGE)
    if options.online:
        from .. import online_check  # now, since our code may be closed to the unit's user
    problems = Problems()
    environment: Mapping[str, str] = os.environ
    credentials: dict[str, str] = {}
    if unit is not None:
        environment = unit.environment
        if os.geteuid() == 0:
            credentials, found = read_credentials(unit)
            problems.found += found
            _become(unit)
    config = examine_config(file, environment, {}, os.geteuid(), problems, credentials)
    refused = {each.setting for each in problems.errors}
    if config is not None:
        # What could not be read has its default now, which is not what is meant.
        found = [*look_at_places(config, Viewer.current()), *look_at_what_runs(config)]
        found += look_at_unit(unit, config) if unit is not None else []
        problems.found += [each for each in found if each.setting not in refused]
    if any(each.source is not None and each.setting == KEY_FILE for each in problems.found):
        # Why there is no key is known better.
        problems.found = [each for each in problems.found if each.source or each.setting != KEY_FILE]
    unreachable: list[Problem] = []
    if options.online and config is not None and not problems.errors:
        unreachable = online_check.look_at_servers(config, options.timeout)
    told = [*problems.found, *unreachable]
    name = str(file or "the environment")
    if options.json:
        print(json.dumps(_as_json(name, config, problems, told), indent=2, ensure_ascii=False))
    else:
        _tell(name, config, problems, told)
    if problems.errors:
        return EXIT_USAGE
    warned = any(each.level != NOTE for each in told)
    hindered = any(each.level == ERROR for each in unreachable)
    return EXIT_FAILED if hindered or (options.strict and warned) else EXIT_OK


def _unit(name: str | None, file: Path | None) -> Unit | None:
    """Return the unit that was asked for, else the one that starts an agent with this file."""
    if name is not None:
        return read_unit(name)
    if file is None or not os.path.isdir(SYSTEMD_RUNS):
        return None
    unit = read_unit(DEFAULT_UNIT)
    ours = unit is not None and unit.config and os.path.realpath(unit.config) == os.path.realpath(file)
    return unit if ours else None


def _become(unit: Unit) -> None:
    """Go on as the unit's user, so that files open for us that open for the agent."""
    collector_kinds()  # modules that he may not be able to read
    user = unit.user
    if user is not None and user.pw_uid != 0 and not unit.reads_everything:
        os.initgroups(user.pw_name, user.pw_gid)
        os.setgid(user.pw_gid)
        os.setuid(user.pw_uid)


def _tell(name: str, config: Config | None, problems: Problems, told: list[Problem]) -> None:
    if config is not None and not problems.errors:
        print(f"{name}: usable")
        for section in config.section_names():
            for setting in fields_of(section):
                origin = _origin(config, section, setting)
                print(f"  {section}.{setting} = {_shown(config, section, setting)}{origin}")
    # What is not usable is a failure, said where failures are.
    output = sys.stderr if problems.errors else sys.stdout
    for each in told:
        print(f"{each.level}: {each}", file=output)
    if problems.errors and len(told) > 1:
        count = f"{len(problems.errors)} of {len(told)}"
        print(f"{name}: not usable: {count} problems keep the agent from starting", file=output)


def _as_json(name: str, config: Config | None, problems: Problems, told: list[Problem]) -> dict[str, Any]:
    settings = (
        {}
        if config is None or problems.errors
        else {
            f"{section}.{setting}": {
                "value": _value(config, section, setting),
                "source": str(config.sources[section, setting])
                if (section, setting) in config.sources
                else None,
            }
            for section in config.section_names()
            for setting in fields_of(section)
        }
    )
    return {
        "checked": name,
        "usable": not problems.errors,
        "problems": [each.to_json() for each in told],
        "settings": settings,
    }


def _origin(config: Config, section: str, name: str) -> str:
    """Return where a value comes from that the file does not have."""
    source = config.sources.get((section, name))
    if source is not None:
        return "" if source.kind == "file" else f"   (from {source.name.removeprefix('the variable ')})"
    settings = config.section(section)
    variables = dict(settings.variables) if isinstance(settings, ServerSettings) else {}
    return f"   (from {variables[name]})" if name in variables else "   (default)"


def _value(config: Config, section: str, name: str) -> Any:
    value = getattr(config.section(section), name)
    if fields_of(section)[name].metadata["secret"]:
        return "(hidden)" if value else ""
    return value


def _shown(config: Config, section: str, name: str) -> str:
    value = _value(config, section, name)
    if "bytes" in name.split("_") and value and value % KIB == 0:
        value = show_size(value)
    return json.dumps(value, ensure_ascii=False)


COMMAND = Command("check-config", "check a config file and show every setting", add_arguments, run)
