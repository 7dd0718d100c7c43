"""tracker-agent run: the agent itself, in the foreground."""

from __future__ import annotations

import argparse
import os
import sys
from typing import Any

from ..config import load_config
from .command import EXIT_FAILED, Command, add_config_flag, config_file, fail

#: Flags that stand for settings: (flag, section, name, what argparse needs).
FLAGS: tuple[tuple[str, str, str, dict[str, Any]], ...] = (
    ("--server", "server", "url", {"metavar": "URL", "help": "address of the Tracker server"}),
    ("--key-file", "server", "key_file", {"metavar": "FILE", "help": "file that holds the API key"}),
    ("--ca-file", "server", "ca_file", {"metavar": "FILE", "help": "certificates of authorities to trust"}),
    (
        "--proxy",
        "server",
        "proxy",
        {"metavar": "URL", "help": "proxy on the way; none: never one"},
    ),
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


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take a flag for each setting that has one."""
    add_config_flag(parser)
    for flag, section, name, more in FLAGS:
        parser.add_argument(flag, dest=f"{section}.{name}", default=None, **more)


def run(options: argparse.Namespace) -> int:
    """Run until a signal ends it."""
    _load_structlog_alone()
    from ..app import run_agent
    from ..state_lock import StateError

    file = config_file(options)
    flags = flags_given(options)
    try:
        return run_agent(lambda: load_config(file, os.environ, flags, os.geteuid()), os.environ)
    except StateError as error:
        return fail(str(error), EXIT_FAILED)


def _load_structlog_alone() -> None:
    """Load structlog without rich, which only `top` and `sync` need.

    It takes rich along where it finds it, for tracebacks that the log does not want so: a fifth of a start.
    """
    if "rich" not in sys.modules:
        sys.modules["rich"] = None  # type: ignore[assignment] # an import of it fails
        try:
            import structlog  # noqa: F401
        finally:
            del sys.modules["rich"]


def flags_given(options: argparse.Namespace) -> dict[tuple[str, str], Any]:
    """Return the settings that flags name, by (section, name)."""
    given = {(section, name): getattr(options, f"{section}.{name}") for _, section, name, _ in FLAGS}
    return {setting: value for setting, value in given.items() if value is not None}


COMMAND = Command("run", "run the agent in the foreground", add_arguments, run)
