"""Builds the run that init() returns: settings, the place in the spool, the first records.

Loaded by init(), so that a bare `import tracker` stays cheap.
"""

import os

from ._agent import Agent, find_agent
from ._names import random_id, random_name
from ._run import Run
from ._settings import Settings
from ._spool import RunPlace, candidate_roots, network_filesystem
from ._terminal import Terminal
from ._version import VERSION
from ._wishes import Wishes
from .protocol import identity

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, List, Optional, Tuple, Type

    OnEnd = Callable[[Run], None]


__all__ = ["Wishes", "attached_run", "begin", "disabled_run"]

_WRITER = "tracker-shim/" + VERSION
_URL_SAFE = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")


def begin(wishes: Wishes, terminal: Terminal, on_end: "OnEnd") -> Run:
    """Return a new run, as the arguments of init() ask for it, and greet the user."""
    settings = wishes.settings
    terminal.silent = settings.silent
    config = wishes.config()
    for problem in wishes.problems:
        terminal.warn("init " + problem, problem)
    fields = settings.run_fields()
    if settings.mode == "disabled":
        fields["name"] = settings.name or random_name()
        run = disabled_run(fields, terminal, on_end, settings.id, config)
    else:
        run, agent = _Beginning(wishes, fields, config, terminal, on_end).run()
        terminal.say(_greeting(run, agent))
        if run.place.directory:
            if wishes.wandb:
                run.use_files_directory()
            _start_helper(run, settings)
    run.settings = settings
    return run


def disabled_run(
    fields: "Dict[str, Any]",
    terminal: Terminal,
    on_end: "OnEnd",
    run_id: "Optional[str]" = None,
    config: "Any" = None,
) -> Run:
    """Return a run that records nothing. Its directory is one that scripts can write into unasked."""
    import tempfile  # 6 ms that other runs need not pay

    directory = tempfile.gettempdir()
    place = RunPlace(directory, directory, run_id or random_id(), "", "", "", _WRITER)
    return Run(place, fields, terminal, disabled=True, config=config, on_end=on_end)


def attached_run(
    place: "Tuple[Any, ...]",
    fields: "Dict[str, Any]",
    url: "Optional[str]",
    disabled: bool,
    step: int,
    config: "Any",
    terminal: Terminal,
    on_end: "OnEnd",
) -> Run:
    """Return a run that another process began and pickled."""
    run = Run(RunPlace(*place), fields, terminal, url, disabled, attached=True, config=config, on_end=on_end)
    run.go_on_at(step)
    return run


class _Beginning:
    """Tries one spool after the other."""

    def __init__(
        self, wishes: Wishes, fields: "Dict[str, Any]", config: "Any", terminal: Terminal, on_end: "OnEnd"
    ) -> None:
        self._wishes = wishes
        self._settings = wishes.settings
        self._fields = fields
        self._config = config
        self._terminal = terminal
        self._on_end = on_end
        self._auto_file: Optional[str] = None
        self._id = self._choose_id()
        self._name = random_name()
        self._kind = _kind_of_run(self._settings)

    def run(self) -> "Tuple[Run, Agent]":
        """Return a run in the first spool that can be written, or one that counts what it loses."""
        settings, terminal = self._settings, self._terminal
        refused: List[str] = []
        first: Optional[Tuple[Run, Agent]] = None
        for root, why in candidate_roots(settings.dir, settings.dir_variable, os.environ):
            agent = find_agent(root)
            run = self._run_in(root, agent)
            try:
                unstored = _hand_over_key(root, settings)
                run.open()
            except OSError as error:
                refused.append("%s (%s): %s" % (root, why, error.strerror or error))
                first = first or (run, agent)
                continue
            if refused:
                terminal.warn("spool", "cannot record in %s; recording in %s" % ("; ".join(refused), root))
            _check_filesystem(run.place.directory, terminal)
            if unstored:
                terminal.warn("key", unstored)
            _check_server(settings.server, agent, terminal)
            if self._auto_file:
                self._remember(run)
            return run, agent
        terminal.warn(
            "spool",
            "nothing can be recorded, training goes on without. Not usable: %s. "
            "Set TRACKER_DIR to a directory you can write to" % "; ".join(refused),
        )
        assert first is not None  # there is always the state directory to try
        first[0].said_to_be_lost()
        return first

    def _choose_id(self) -> str:
        if self._settings.resume == "auto":
            from ._resume import auto_file, read_auto_id

            self._auto_file = auto_file()
            return self._settings.id or read_auto_id(self._auto_file) or random_id()
        return self._settings.id or random_id()

    def _remember(self, run: Run) -> None:
        """Keep the run's id for the next start, until the run has ended well."""
        from ._resume import forget_auto_id, keep_auto_id

        path = self._auto_file
        assert path is not None
        if not keep_auto_id(path, run.id):
            self._terminal.warn("resume", "resume='auto': %s cannot be written" % path)
        run.at_end(lambda code: None if code else forget_auto_id(path, run.id))

    def _run_in(self, root: str, agent: Agent) -> Run:
        settings, fields, config = self._settings, dict(self._fields), self._config
        life = None
        if settings.resume:
            from ._resume import find_former_life

            life, problem = find_former_life(root, self._id, settings.resume)
            if problem:
                self._terminal.warn("resume", problem)
            if settings.resume == "never" and life is not None:
                self._id, life = random_id(), None
        if life is not None:
            fields = dict(life.fields, **fields)
            config = dict(life.config, **config)
        fields["name"] = settings.name or fields.get("name") or self._name
        place = _new_place(root, agent, settings, self._id)
        server = agent.public_url(settings.server) if settings.server else agent.url
        url = _run_url(server, place.run, str(fields["project"]))
        run = self._kind(place, fields, self._terminal, url, config=config, on_end=self._on_end)
        if life is not None:
            run.resume(life.step, life.summary)
        return run


def _start_helper(run: Run, settings: Settings) -> None:
    """Start the process that records console and code state, where one of them is on."""
    try:
        plan = None
        spec: Dict[str, Any] = {}
        if settings.console != "off":
            from . import _console

            plan = _console.prepare(run, settings)
            if plan is not None:
                spec["console"] = plan.spec
        if not settings.disable_code:
            spec["code"] = True
        if not spec:
            return
        from . import _helper_client

        terminal = run.terminal
        client = _helper_client.start(run.place, settings, spec, lambda text: terminal.warn("helper", text))
        if client is not None:
            run.helper = client
            run.at_end(lambda code: _dismiss(client, code, terminal))  # first registered, last called
        if plan is not None:
            plan.begin(client)
    except Exception as error:  # noqa: BLE001 - the guard: the run itself has begun
        run.terminal.warn(
            "helper", "console and code are not recorded: %s: %s" % (type(error).__name__, error)
        )


def _dismiss(client: "Any", code: int, terminal: Terminal) -> None:
    for problem in client.problems():
        terminal.warn("helper", problem)
    client.close(code)


def _kind_of_run(settings: Settings) -> "Type[Run]":
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
        root, "", run_id, machine, boot, identity.host_name(), _WRITER, settings.rank, offline,
        settings.server, settings.account, os.getpid() if settings.allow_stop else 0, settings.gpus,
        role=settings.role,
    )  # fmt: skip


def _hand_over_key(root: str, settings: Settings) -> "Optional[str]":
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


def _check_filesystem(directory: str, terminal: Terminal) -> None:
    kind = network_filesystem(directory)
    if kind:
        terminal.warn(
            "network",
            "this run's directory is on a network file system (%s): while its server does not answer, "
            "log() waits, as any write there does. Set TRACKER_DIR to a directory of this machine" % kind,
        )


def _check_server(server: "Optional[str]", agent: Agent, terminal: Terminal) -> None:
    if server and agent.servers and server not in agent.servers:
        terminal.warn(
            "server",
            "this machine's agent ships to %s, not to %s: the run waits here until that server is added"
            % (", ".join(sorted(agent.servers)), server),
        )


def _run_url(url: str, run_id: str, project: str) -> "Optional[str]":
    if not url:
        return None
    quoted = "".join(
        c if c in _URL_SAFE else "".join("%%%02X" % b for b in c.encode("utf-8", "replace")) for c in project
    )
    return "%s/runs/%s?project=%s" % (url.rstrip("/"), run_id, quoted)


def _greeting(run: Run, agent: Agent) -> str:
    parts = ["run %s%s" % (run.name, " goes on at step %d" % run.step if run.resumed else ""), run.directory]
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
