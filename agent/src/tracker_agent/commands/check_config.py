"""tracker-agent check-config: whether a configuration can be used, and every setting with its value."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

from ..config import load_config, parse_file, read_file
from ..places_check import Viewer, place_problems
from ..setting_values import KIB, show_size
from ..settings import Config, ServerSettings, fields_of
from .command import EXIT_OK, Command, config_file


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take the file to check."""
    parser.add_argument("file", metavar="FILE", type=Path, nargs="?", help="the file to check")
    parser.set_defaults(config=None)


def run(options: argparse.Namespace) -> int:
    """Print every setting; what cannot be used ends as a ConfigError."""
    file = options.file or config_file(options)
    config = load_config(file, os.environ, {}, os.geteuid())
    print(f"{file or 'the environment'}: usable")
    chosen = set(parse_file(read_file(file), str(file))) if file else set()
    for section in config.section_names():
        for name in fields_of(section):
            origin = "" if (section, name) in chosen else _origin(config, section, name)
            print(f"  {section}.{name} = {_shown(config, section, name)}{origin}")
    for warning in [*config.warnings, *place_problems(config, Viewer.current())]:
        print(f"warning: {warning}")
    return EXIT_OK


def _origin(config: Config, section: str, name: str) -> str:
    """Return where a value comes from that the file does not have."""
    settings = config.section(section)
    variables = dict(settings.variables) if isinstance(settings, ServerSettings) else {}
    return f"   (from {variables[name]})" if name in variables else "   (default)"


def _shown(config: Config, section: str, name: str) -> str:
    value = getattr(config.section(section), name)
    if fields_of(section)[name].metadata["secret"]:
        return '"(hidden)"' if value else '""'
    if "bytes" in name.split("_") and value and value % KIB == 0:
        value = show_size(value)
    return json.dumps(value, ensure_ascii=False)


COMMAND = Command("check-config", "check a config file and show every setting", add_arguments, run)
