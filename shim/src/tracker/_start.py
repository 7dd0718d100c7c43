"""Builds the run that init() returns: settings, the place in the spool, the first records.

Loaded by init(), so that a bare `import tracker` stays cheap.
"""

import os
import socket
import tempfile
from typing import Any, Callable, Dict, List, Optional, Tuple, Type

from ._agent import Agent, find_agent
from ._names import random_id, random_name
from ._run import Run
from ._settings import Settings
from ._spool import RunPlace, candidate_roots
from ._terminal import Terminal
from ._version import VERSION
from .protocol import identity

_WRITER = "tracker-shim/" + VERSION
_URL_SAFE = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")

#: Arguments that wandb.init() has and that mean nothing here, or not yet.
_IGNORED_ARGUMENTS = frozenset(
    [
        "resume",
        "allow_val_change",
        "anonymous",
        "config_exclude_keys",
        "config_include_keys",
        "force",
        "fork_from",
        "monitor_gym",
        "reinit",
        "resume_from",
        "save_code",
        "settings",
        "sync_tensorboard",
        "tensorboard",
        "magic",
    ]
)

OnEnd = Callable[[Run], None]


def begin(
    arguments: Dict[str, Any], config: Any, unknown: Dict[str, Any], terminal: Terminal, on_end: OnEnd
) -> Run:
    """Return a new run, as the arguments of init() ask for it, and greet the user."""
    settings = Settings(dict(arguments, **_connection(unknown.get("settings"))), os.environ)
    terminal.silent = settings.silent
    for problem in settings.problems:
        terminal.warn("init " + problem, problem)
    strange = sorted(set(unknown) - _IGNORED_ARGUMENTS)
    if strange:
        terminal.warn("init", "init() does not know %s; ignored" % ", ".join(strange))
    fields = settings.run_fields()
    fields["name"] = settings.name or random_name()
    if settings.mode == "disabled":
        return disabled_run(fields, terminal, on_end, settings.id, config)
    run, agent = _recording_run(settings, fields, config, terminal, on_end)
    terminal.say(_greeting(run, agent))
    return run


def disabled_run(
    fields: Dict[str, Any],
    terminal: Terminal,
    on_end: OnEnd,
    run_id: Optional[str] = None,
    config: Any = None,
) -> Run:
    """Return a run that records nothing. Its directory is one that scripts can write into unasked."""
    directory = tempfile.gettempdir()
    place = RunPlace(directory, directory, run_id or random_id(), "", "", "", _WRITER)
    return Run(place, fields, terminal, disabled=True, config=config, on_end=on_end)


def attached_run(
    place: Tuple[Any, ...],
    fields: Dict[str, Any],
    url: Optional[str],
    disabled: bool,
    step: int,
    terminal: Terminal,
    on_end: OnEnd,
) -> Run:
    """Return a run that another process began and pickled."""
    run = Run(RunPlace(*place), fields, terminal, url, disabled, attached=True, on_end=on_end)
    run.resume_at(step)
    return run


def _recording_run(
    settings: Settings, fields: Dict[str, Any], config: Any, terminal: Terminal, on_end: OnEnd
) -> Tuple[Run, Agent]:
    """Return a run in the first spool that can be written, or one that counts what it loses."""
    refused: List[str] = []
    first: Optional[Tuple[Run, Agent]] = None
    kind = _kind_of_run(settings)
    for root, why in candidate_roots(settings.dir, settings.dir_variable, os.environ):
        agent = find_agent(root)
        place = _new_place(root, agent, settings, first[0].id if first else settings.id or random_id())
        server = agent.public_url(settings.server) if settings.server else agent.url
        run = kind(
            place,
            fields,
            terminal,
            _run_url(server, place.run, settings.project),
            config=config,
            on_end=on_end,
        )
        try:
            unstored = _hand_over_key(root, settings)
            run.open()
        except OSError as error:
            refused.append("%s (%s): %s" % (root, why, error.strerror or error))
            first = first or (run, agent)
            continue
        if refused:
            terminal.warn("spool", "cannot record in %s; recording in %s" % ("; ".join(refused), root))
        if unstored:
            terminal.warn("key", unstored)
        _check_server(settings.server, agent, terminal)
        return run, agent
    terminal.warn(
        "spool",
        "nothing can be recorded, training goes on without. Not usable: %s. "
        "Set TRACKER_DIR to a directory you can write to" % "; ".join(refused),
    )
    assert first is not None  # there is always the state directory to try
    first[0].said_to_be_lost()
    return first


def _kind_of_run(settings: Settings) -> Type[Run]:
    if not settings.allow_stop:
        return Run
    from ._stop import StoppableRun  # with json and signal, which only such runs pay for

    return StoppableRun


def _new_place(root: str, agent: Agent, settings: Settings, run_id: str) -> RunPlace:
    boot = identity.boot_id()
    # In a container the agent of the host knows the machine better than we do.
    known = agent.machine if agent.machine and agent.boot == boot else ""
    offline = settings.mode == "offline"
    machine = known or identity.machine_id()
    return RunPlace(
        root, "", run_id, machine, boot, socket.gethostname(), _WRITER, settings.rank, offline,
        settings.server, settings.account, os.getpid() if settings.allow_stop else 0, settings.gpus,
    )  # fmt: skip


def _connection(settings: Any) -> Dict[str, Any]:
    """Return what the argument `settings` of init(), a dict or an object, says about server and key."""
    names = ("base_url", "api_key", "account")
    if isinstance(settings, dict):
        return {name: settings.get(name) for name in names}
    return {name: getattr(settings, name, None) for name in names}


def _hand_over_key(root: str, settings: Settings) -> Optional[str]:
    """Leave the key where the agent finds it; return what to tell the user when that fails."""
    if not settings.api_key:
        return None
    from ._credentials import store_key  # with json, which only users of keys pay for

    try:
        store_key(root, settings.server or "", settings.account or "", settings.api_key)
    except OSError as error:
        return "the API key cannot be kept for the agent (%s), so this run waits on this machine: %s" % (
            root,
            error.strerror or error,
        )
    return None


def _check_server(server: Optional[str], agent: Agent, terminal: Terminal) -> None:
    if server and agent.servers and server not in agent.servers:
        terminal.warn(
            "server",
            "this machine's agent ships to %s, not to %s: the run waits here until that server is added"
            % (", ".join(sorted(agent.servers)), server),
        )


def _run_url(url: str, run_id: str, project: str) -> Optional[str]:
    if not url:
        return None
    quoted = "".join(
        c if c in _URL_SAFE else "".join("%%%02X" % b for b in c.encode("utf-8", "replace")) for c in project
    )
    return "%s/runs/%s?project=%s" % (url.rstrip("/"), run_id, quoted)


def _greeting(run: Run, agent: Agent) -> str:
    parts = ["run %s" % run.name, run.dir]
    if run.offline:
        parts.append("offline: kept in this directory, not sent")
        return " · ".join(parts)
    if run.url:
        parts.append(run.url)
    if not agent.running:
        parts.append(
            "no agent is running here: records wait in this directory until one is started with "
            "`systemctl --user start tracker-agent` or `tracker-agent run`"
        )
    return " · ".join(parts)
