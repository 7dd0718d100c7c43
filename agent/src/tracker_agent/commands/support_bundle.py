"""tracker-agent support-bundle: one file with what is needed to find out what is wrong, and no secrets."""

from __future__ import annotations

import argparse
import io
import json
import os
import socket
import stat
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..config import load_config
from ..config_file import ConfigError
from ..redaction import Redactor, config_without_secrets, secrets_of, strings_in
from ..settings import Config
from .command import EXIT_FAILED, EXIT_OK, Command, add_agent_flags, config_file, fail, state_dirs

#: What a user's file of credentials may hold to be looked through.
CREDENTIALS_BYTES_MAX = 64 * 1024
#: The agent reads no files for its part, but may be busy.
ASK_TIMEOUT_S = 30.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take where to write it."""
    add_agent_flags(parser)
    parser.add_argument(
        "file",
        metavar="FILE",
        type=Path,
        nargs="?",
        help="where to write it; default: tracker-agent-HOST-TIME.tar.gz in this directory",
    )


def run(options: argparse.Namespace) -> int:
    """Collect, remove what is secret, write."""
    stamp = time.strftime("%Y%m%d-%H%M%S")
    name = f"tracker-agent-{socket.gethostname().partition('.')[0]}-{stamp}"
    path = options.file or Path(f"{name}.tar.gz")
    contents = _collect(options)
    try:
        # Not for other users, and never over a file that is there.
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "wb") as file, tarfile.open(fileobj=file, mode="w:gz") as archive:
            for member, text in contents.items():
                data = text.encode("utf-8", "backslashreplace")
                entry = tarfile.TarInfo(f"{name}/{member}")
                entry.size, entry.mtime, entry.mode = len(data), int(time.time()), 0o600
                archive.addfile(entry, io.BytesIO(data))
    except OSError as error:
        return fail(f"cannot write {path}: {error.strerror or error}; name another FILE", EXIT_FAILED)
    print(f"{path}: {', '.join(contents)}")
    print(
        "No keys, passwords or records are in it; names of users, runs and paths are. Look into it before "
        "you send it."
    )
    return EXIT_OK


def _collect(options: argparse.Namespace) -> dict[str, str]:
    """Return the text of each member."""
    from ..report import render
    from ..support_facts import directory_facts, machine_facts, process_facts, spool_facts
    from .agent_connection import NoAnswer, ask_agent

    missing: dict[str, str] = {}
    answer: dict[str, Any] = {}
    try:
        answer = ask_agent(options, "support", timeout_s=ASK_TIMEOUT_S)
    except (NoAnswer, ConfigError) as error:
        missing["the running agent"] = str(error)
    status = answer.get("status") or {}
    config = None
    try:
        config = load_config(_config_of(options, status), os.environ, {}, os.geteuid())
    except ConfigError as error:
        missing["the configuration as this user would load it"] = str(error)

    spools = [Path(each["path"]) for each in status.get("spools", [])] or list(
        config.spools if config else ()
    )
    try:
        directories = state_dirs(options)
    except ConfigError:  # said above
        directories = []
    redactor = Redactor(_secrets(config, spools))
    documents: dict[str, Any] = {
        "machine.json": machine_facts(os.environ),
        "directories.json": [directory_facts(each) for each in [*directories, *spools]],
        "spools.json": [spool_facts(each) for each in spools],
    }
    texts: dict[str, str] = {}
    if status:
        documents["status.json"] = status
        documents["process.json"] = process_facts(int(status["agent"]["pid"]))
        documents["config.json"] = answer["config"]
        documents["tasks.json"] = answer["tasks"]
        documents["threads.json"] = answer["threads"]
        texts["status.txt"] = render(status) + "\n"
        texts["log.txt"] = "\n".join(answer["log"]) + "\n"
        texts["metrics.txt"] = answer["metrics"]
    elif config is not None:
        documents["config.json"] = config_without_secrets(config)
    documents["manifest.json"] = {"could_not_be_had": missing, "members": sorted([*documents, *texts])}
    contents = {
        member: json.dumps(redactor.value(document), indent=2, default=str) + "\n"
        for member, document in documents.items()
    }
    return contents | {member: redactor.text(text) for member, text in texts.items()}


def _config_of(options: argparse.Namespace, status: dict[str, Any]) -> Path | None:
    named = status.get("agent", {}).get("config")
    return config_file(options) or (Path(named) if named else None)


def _secrets(config: Config | None, spools: list[Path]) -> Iterator[str]:
    """Yield every secret that this user could read: those of the configuration, and users' credentials."""
    if config is not None:
        yield from secrets_of(config)
    for spool in spools:
        for path in spool.glob("*/credentials"):
            try:
                # A user may have put anything there.
                fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
                with os.fdopen(fd, "rb") as file:
                    if not stat.S_ISREG(os.fstat(fd).st_mode):
                        continue
                    yield from strings_in(json.loads(file.read(CREDENTIALS_BYTES_MAX)))
            except (OSError, ValueError):
                continue


COMMAND = Command(
    "support-bundle", "write one file that says what is wrong, without secrets", add_arguments, run
)
