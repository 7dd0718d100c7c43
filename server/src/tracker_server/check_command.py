"""tracker-server check-config: all that is wrong with the settings, and every setting with its value."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from .config import SECTIONS, Settings, examine_settings
from .config_check import look_at_world
from .config_file import NOTE, Problems

EXIT_OK, EXIT_WARNED, EXIT_UNUSABLE = 0, 1, 2
DESCRIPTION = (
    "Check the settings as the server would load them: the file, the variables TRACKER_SERVER_*, the data "
    "directory, the address to listen on. Every problem is told at once, each with where it is and what to "
    "do. Run it as the server's user."
)
EPILOG = (
    "exit status: 0 they can be used, perhaps with warnings; 1 they can be used, but there are warnings "
    "(--strict); 2 the server would not start with them."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take how strictly, and for whom the answer is."""
    parser.add_argument("--strict", action="store_true", help="exit status 1 when there are warnings")
    parser.add_argument("--json", action="store_true", help="problems and settings, for programs")


def run(
    options: argparse.Namespace,
    file: Path | None,
    environment: Mapping[str, str],
    flags: Mapping[tuple[str, str], Any],
    why_not_listening: Callable[[str, int], str | None],
) -> int:
    """Look at everything, then tell it; return the exit status."""
    problems = Problems()
    settings = examine_settings(file, environment, flags, problems)
    if settings is not None:
        refused = {each.setting for each in problems.errors}
        found = look_at_world(file, settings, why_not_listening)
        problems.found += [each for each in found if each.setting not in refused]
    usable = settings is not None and not problems.errors
    if options.json:
        document = {
            "checked": str(file or "the environment"),
            "usable": usable,
            "problems": [each.to_json() for each in problems.found],
            "settings": _values(settings) if settings is not None and usable else {},
        }
        print(json.dumps(document, indent=2, ensure_ascii=False))
    else:
        _tell(settings if usable else None, problems)
    if not usable:
        return EXIT_UNUSABLE
    return EXIT_WARNED if options.strict and any(each.level != NOTE for each in problems.found) else EXIT_OK


def _tell(settings: Settings | None, problems: Problems) -> None:
    if settings is not None:
        print(f"data = {str(settings.data)!r}")
        for section in SECTIONS:
            print(f"[{section}]")
            for name, value in vars(getattr(settings, section)).items():
                print(f"{name} = {list(value) if isinstance(value, tuple) else value!r}")
    for each in problems.found:
        print(f"{each.level}: {each}", file=sys.stderr)
    if settings is not None:
        print("The settings can be used." if problems.found else "The settings are fine.", file=sys.stderr)
    elif len(problems.found) > 1:
        count = len(problems.errors)
        print(
            f"Not usable: {count} of {len(problems.found)} problems keep the server from starting.",
            file=sys.stderr,
        )


def _values(settings: Settings) -> dict[str, Any]:
    sources = settings.sources
    shown: dict[str, Any] = {"data": {"value": str(settings.data), "source": str(sources[("", "data")])}}
    for section in SECTIONS:
        for name, value in vars(getattr(settings, section)).items():
            source = sources.get((section, name))
            shown[f"{section}.{name}"] = {"value": value, "source": str(source) if source else None}
    return shown
