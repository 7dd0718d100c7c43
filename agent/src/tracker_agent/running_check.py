"""What an agent that would start now finds taken: its state directory, the address of its metrics."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from .config_file import NOTE, WARNING, Problem
from .control import ControlError, NotRunningError, ask
from .settings import Config

ANSWER_TIMEOUT_S = 3.0


def look_at_what_runs(config: Config) -> Iterator[Problem]:
    """Yield who has what this configuration wants. Asks the agent that runs there, if one does."""
    source, setting = config.sources.get(("agent", "state_dir")), "agent.state_dir"
    try:
        agent = ask(config.state_dir, "status", timeout_s=ANSWER_TIMEOUT_S)["agent"]
    except NotRunningError:
        yield from _look_at_listen(config)
        return
    except (ControlError, KeyError) as error:
        yield Problem(
            f"whether an agent runs with {config.state_dir} cannot be said: {error}",
            "ask as root or as the agent's user",
            source,
            setting,
            NOTE,
        )
        return
    theirs = agent.get("config")
    if config.file is not None and theirs is not None and not _same_file(theirs, config.file):
        yield Problem(
            f"an agent with another configuration ({theirs}, pid {agent.get('pid')}) has {config.state_dir}",
            "stop it, or give this one a state_dir of its own",
            source,
            setting,
        )
        return
    yield Problem(
        f"an agent runs with this configuration (pid {agent.get('pid')})",
        "`systemctl reload tracker-agent` puts changes of the file into force",
        source,
        setting,
        NOTE,
    )


def _same_file(one: str, other: Path) -> bool:
    try:
        return os.path.samefile(one, other)
    except OSError:
        return False


def _look_at_listen(config: Config) -> Iterator[Problem]:
    listen = config.metrics.listen
    if not listen:
        return
    problem = _unix_problem(listen[5:]) if listen.startswith("unix:") else _address_problem(listen)
    if problem is not None:
        what, todo = problem
        yield Problem(
            f"metrics.listen = {listen!r}: {what}",
            todo,
            config.sources.get(("metrics", "listen")),
            "metrics.listen",
            WARNING,
        )


def _unix_problem(path: str) -> tuple[str, str] | None:
    parent = os.path.dirname(path)
    if not os.path.isdir(parent):
        return f"there is no directory {parent}", "make it, or choose another place"
    if not os.access(parent, os.W_OK | os.X_OK):
        return f"the agent's user may not write into {parent}", "let it, or choose another place"
    return None


def _address_problem(listen: str) -> tuple[str, str] | None:
    host, _, port = listen.rpartition(":")
    try:
        [(family, kind, _, _, address), *_] = socket.getaddrinfo(
            host.strip("[]"), int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except socket.gaierror as error:
        return f"the name cannot be resolved ({error.strerror})", "write an address of this machine"
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            return "the port is in use", "choose another one, or stop what listens there"
        if error.errno == errno.EADDRNOTAVAIL:
            return "this machine does not have that address", "choose one that it has, such as 127.0.0.1"
        if error.errno == errno.EACCES:
            return "the agent's user may not listen there", "choose a port above 1023"
        return str(error.strerror or error), "choose another address"
    return None
