"""The command line: tracker-agent run, status, check-config."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from .config import CONFIG_VARIABLE, default_state_dir, load_config, parse_file, read_file
from .settings import Config, ConfigError, settings

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
#: As `systemctl status` has it: the program is not running.
EXIT_NOT_RUNNING = 3

#: Flags that stand for settings: (flag, section, name, what argparse needs).
_FLAGS: tuple[tuple[str, str, str, dict[str, Any]], ...] = (
    ("--server", "server", "url", {"metavar": "URL", "help": "address of the Tracker server"}),
    ("--key-file", "server", "key_file", {"metavar": "FILE", "help": "file that holds the API key"}),
    ("--public-url", "server", "public_url", {"metavar": "URL", "help": "address people open"}),
    (
        "--spool",
        "agent",
        "spools",
        {"metavar": "DIR", "action": "append", "help": "directory training processes write into; repeatable"},
    ),
    ("--state-dir", "agent", "state_dir", {"metavar": "DIR", "help": "the agent's own directory"}),
    (
        "--watch",
        "agent",
        "watch",
        {"choices": ("auto", "on", "off"), "help": "wake up by inotify between scans"},
    ),
    (
        "--log-level",
        "agent",
        "log_level",
        {"choices": ("debug", "info", "warning", "error"), "help": "the least important thing logged"},
    ),
    (
        "--log-format",
        "agent",
        "log_format",
        {"choices": ("auto", "json", "console"), "help": "how the log is written"},
    ),
    (
        "--sample-interval",
        "sampler",
        "interval_s",
        {"metavar": "SECONDS", "type": float, "help": "time between two samples of the machine"},
    ),
    (
        "--sample-window",
        "sampler",
        "window_s",
        {"metavar": "SECONDS", "type": float, "help": "time one shipped window covers"},
    ),
    ("--gpu", "sampler", "gpu", {"choices": ("auto", "off"), "help": "measure NVIDIA GPUs"}),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    options = _parser().parse_args(arguments)
    command: Callable[[argparse.Namespace], int] = options.command
    try:
        return command(options)
    except ConfigError as error:
        return _fail(str(error), EXIT_USAGE)
    except BrokenPipeError:
        # The reader of our output, such as `head`, has seen enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return EXIT_OK


def _run(options: argparse.Namespace) -> int:
    from .app import run_agent
    from .state_lock import StateError

    file = _config_file(options)
    flags = _flags(options)
    try:
        return run_agent(lambda: load_config(file, os.environ, flags, os.geteuid()), os.environ)
    except StateError as error:
        return _fail(str(error), EXIT_FAILED)


def _status(options: argparse.Namespace) -> int:
    from .control import ControlError, NotRunningError, ask
    from .report import render

    missing: Exception | None = None
    for state_dir in _state_dirs(options):
        try:
            status = ask(state_dir, "status")
        except NotRunningError as error:
            missing = missing or error
            continue
        except ControlError as error:
            return _fail(str(error), EXIT_FAILED)
        if options.json:
            print(json.dumps(status, indent=2))
        else:
            print(render(status))
        return EXIT_OK
    return _fail(
        f"{missing}; start it with `systemctl start tracker-agent` or `tracker-agent run`, "
        "or name its directory with --state-dir",
        EXIT_NOT_RUNNING,
    )


def _check_config(options: argparse.Namespace) -> int:
    file = options.file or _config_file(options)
    config = load_config(file, os.environ, {}, os.geteuid())
    print(f"{file or 'the environment'}: usable")
    chosen = set(parse_file(read_file(file), str(file))) if file else set()
    for section, each in settings():
        value = _shown(config, section, each.name)
        print(f"  {section}.{each.name} = {value}{'' if (section, each.name) in chosen else '   (default)'}")
    for warning in config.warnings:
        print(f"warning: {warning}")
    return EXIT_OK


def _shown(config: Config, section: str, name: str) -> str:
    value = getattr(getattr(config, section), name)
    if (section, name) == ("server", "key"):
        return '"(hidden)"' if value else '""'
    return json.dumps(value)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tracker-agent",
        description="Ships what training runs record, exactly once, and measures this machine.",
    )
    parser.add_argument("--version", action="version", version=f"tracker-agent {version('tracker-agent')}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    run = commands.add_parser("run", help="run the agent in the foreground")
    _add_config_flag(run)
    for flag, section, name, more in _FLAGS:
        run.add_argument(flag, dest=f"{section}.{name}", default=None, **more)
    run.set_defaults(command=_run)

    status = commands.add_parser("status", help="show what the running agent ships and what is behind")
    _add_config_flag(status)
    status.add_argument("--state-dir", metavar="DIR", type=Path, help="the agent's state directory")
    status.add_argument("--json", action="store_true", help="everything, for programs")
    status.set_defaults(command=_status)

    check = commands.add_parser("check-config", help="check a config file and show every setting")
    check.add_argument("file", metavar="FILE", type=Path, nargs="?", help="the file to check")
    check.set_defaults(command=_check_config, config=None)
    return parser


def _add_config_flag(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", metavar="FILE", type=Path, help=f"config file (or ${CONFIG_VARIABLE})")


def _config_file(options: argparse.Namespace) -> Path | None:
    if options.config is not None:
        return Path(options.config)
    named = os.environ.get(CONFIG_VARIABLE)
    return Path(named) if named else None


def _flags(options: argparse.Namespace) -> dict[tuple[str, str], Any]:
    given = {(section, name): getattr(options, f"{section}.{name}") for _, section, name, _ in _FLAGS}
    return {setting: value for setting, value in given.items() if value is not None}


def _state_dirs(options: argparse.Namespace) -> list[Path]:
    """Return where the agent may be: where we are told, else the user's own agent, else the system's."""
    if options.state_dir is not None:
        return [options.state_dir]
    file = _config_file(options)
    if file is not None:
        return [load_config(file, os.environ, {}, os.geteuid()).state_dir]
    named = os.environ.get("TRACKER_AGENT_AGENT_STATE_DIR")
    if named:
        return [Path(named)]
    places = (default_state_dir(os.environ, os.geteuid()), default_state_dir({}, 0))
    return [Path(place) for place in dict.fromkeys(places)]


def _fail(message: str, status: int) -> int:
    print(f"tracker-agent: {message}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
