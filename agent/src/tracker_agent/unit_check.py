"""What a systemd unit makes of a configuration: the key it hands over, the paths and devices it leaves open.

Reads `systemctl show` and `systemctl cat`, so that drop-ins count. For check-config; the agent asks for none
of this.
"""

from __future__ import annotations

import os
import pwd
import re
import shlex
import stat
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .config_file import NOTE, WARNING, Problem, Source
from .server_settings import CREDENTIAL_NAME, parse_key
from .setting_values import MIB, show_size
from .settings import Config
from .watched_file import read_secret

DEFAULT_UNIT = "tracker-agent.service"
_PROPERTIES = (
    "LoadState", "NeedDaemonReload", "ExecStart", "User", "Environment", "StateDirectory",
    "AmbientCapabilities", "ProtectSystem", "ReadWritePaths", "ProtectHome", "PrivateDevices", "MemoryMax",
    "LimitNOFILE",
)  # fmt: skip
#: What the agent takes beside records in flight, and files beside those of runs.
_MEMORY_BESIDES_BYTES = 128 * MIB
_FILES_BESIDES = 256


@dataclass(frozen=True)
class Unit:
    """A loaded unit, as its manager sees it with all drop-ins."""

    name: str
    properties: dict[str, str]
    credentials: dict[str, str]  #: the files that it hands over, by name

    @property
    def source(self) -> Source:
        """Return what messages call it."""
        return Source(f"the unit {self.name}", kind="unit")

    @property
    def config(self) -> str | None:
        """The config file that it starts the agent with."""
        found = re.search(r"--config[= ](\S+)", self.properties.get("ExecStart", ""))
        return found.group(1) if found else None

    @property
    def environment(self) -> dict[str, str]:
        """What a process of it finds in its environment, of what the settings depend on."""
        try:
            pairs = shlex.split(self.properties.get("Environment", ""))
        except ValueError:
            pairs = []
        given = dict(pair.split("=", 1) for pair in pairs if "=" in pair)
        state = self.properties.get("StateDirectory", "").split()
        given |= {"STATE_DIRECTORY": f"/var/lib/{state[0]}"} if state else {}
        user = self.user
        return {"HOME": user.pw_dir if user else "/root", **given}

    @property
    def user(self) -> pwd.struct_passwd | None:
        """Return whom it runs as; None: root, or nobody this machine knows."""
        try:
            return pwd.getpwnam(self.properties.get("User") or "root")
        except KeyError:
            return None

    @property
    def reads_everything(self) -> bool:
        """Whether permissions of files do not hold for it."""
        return "cap_dac_read_search" in self.properties.get("AmbientCapabilities", "").lower()


def read_unit(name: str) -> Unit | None:
    """Return a unit as systemd has loaded it; None where there is no such unit or no systemd."""
    name = name if "." in name else f"{name}.service"
    shown = _ask_systemd("show", name, f"--property={','.join(_PROPERTIES)}")
    properties = dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)
    if properties.get("LoadState") != "loaded":
        return None
    return Unit(name, properties, parse_credentials(_ask_systemd("cat", name)))


def parse_credentials(files: str) -> dict[str, str]:
    """Return the files of LoadCredential= by name, from the text of a unit's files in their order.

    `systemctl show` calls them unprintable.
    """
    found: dict[str, str] = {}
    for line in files.splitlines():
        setting, equals, text = line.partition("=")
        if setting.strip() == "LoadCredential" and equals:
            name, colon, path = text.strip().partition(":")
            if not name:
                found.clear()  # as systemd has it: an empty one takes back those before
            elif colon:
                found[name] = path
    return found


def _ask_systemd(*arguments: str) -> str:
    try:
        done = subprocess.run(
            ["systemctl", "--no-pager", *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout


def read_credentials(unit: Unit) -> tuple[dict[str, str], list[Problem]]:
    """Return the keys that a unit hands over, by name, and what is wrong with their files. Needs root."""
    keys, problems = {}, []
    for name, path in unit.credentials.items():
        if name != CREDENTIAL_NAME and not name.startswith(f"{CREDENTIAL_NAME}-"):
            continue
        try:
            content, status = read_secret(path)
            keys[name] = parse_key(content.decode("utf-8", "replace"))
        except OSError as error:
            what = f"LoadCredential={name}:{path}: {error.strerror or error}; so the unit cannot start"
            todo = f"put the key into that file: install -m 600 /dev/stdin {path}"
            problems.append(Problem(what, todo, unit.source, "server.key_file"))
            continue
        except ValueError as error:
            todo = "it should hold one line: the key that `tracker-server key create` printed"
            problems.append(Problem(f"{path}: {error}", todo, unit.source, "server.key_file"))
            continue
        if status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            what = f"others than root can get at the key in {path}"
            problems.append(Problem(what, f"run: chmod 600 {path}", unit.source, "server.key_file", WARNING))
    return keys, problems


def look_at_unit(unit: Unit, config: Config) -> Iterator[Problem]:
    """Yield what the unit keeps a configuration from."""
    of = unit.properties
    edit = f"systemctl edit {unit.name}"
    if of.get("NeedDaemonReload") == "yes":
        yield _problem(unit, "its files were changed since systemd read them", "run: systemctl daemon-reload")
    if unit.config and config.file and not _same(unit.config, config.file):
        what = f"it starts the agent with another file: {unit.config}"
        yield _problem(unit, what, f"check that one, or change ExecStart= ({edit})", NOTE)
    if unit.user is None:
        what = f"there is no user {of.get('User')}"
        yield _problem(unit, what, "run: systemd-sysusers", level="error")
    if not config.server.key and not config.server.key_file and CREDENTIAL_NAME not in unit.credentials:
        what = "it hands over no key, and no setting names one"
        todo = f"add LoadCredential={CREDENTIAL_NAME}:/etc/tracker/agent-key ({edit})"
        yield _problem(unit, what, todo, setting="server.key_file")
    yield from _look_at_paths(unit, config, edit)
    if of.get("PrivateDevices") == "yes" and config.sampler.gpu != "off":
        what = "PrivateDevices=yes hides the GPUs"
        yield _problem(unit, what, f'take it out ({edit}), or set gpu = "off"', setting="sampler.gpu")
    memory, needed = of.get("MemoryMax", ""), config.limits.memory_bytes + _MEMORY_BESIDES_BYTES
    if memory.isdecimal() and int(memory) < needed:
        limit = show_size(config.limits.memory_bytes)
        what = f"MemoryMax={show_size(int(memory))} is too little for limits.memory_bytes = {limit}"
        yield _problem(unit, what, f"allow {show_size(needed)} ({edit})", setting="limits.memory_bytes")
    files, wanted = of.get("LimitNOFILE", ""), config.limits.open_files + _FILES_BESIDES
    if files.isdecimal() and int(files) < wanted:
        what = f"LimitNOFILE={files} is too little for limits.open_files = {config.limits.open_files}"
        yield _problem(unit, what, f"allow {wanted} ({edit})", setting="limits.open_files")


def _look_at_paths(unit: Unit, config: Config, edit: str) -> Iterator[Problem]:
    of = unit.properties
    open_paths = [each.lstrip("-+") for each in of.get("ReadWritePaths", "").split()]
    open_paths += [f"/var/lib/{each}" for each in of.get("StateDirectory", "").split()]
    places = [("agent.state_dir", config.state_dir), *(("agent.spools", spool) for spool in config.spools)]
    for setting, path in places:
        within = any(_is_within(path, each) for each in open_paths)
        if of.get("ProtectHome") in ("yes", "tmpfs") and any(
            _is_within(path, each) for each in ("/home", "/root", "/run/user")
        ):
            what = f"ProtectHome={of['ProtectHome']} hides {path}"
            yield _problem(unit, what, f"set ProtectHome=read-only ({edit})", setting=setting)
        elif of.get("ProtectSystem") == "strict" and not within:
            what = f"ProtectSystem=strict makes {path} read-only for the agent"
            yield _problem(unit, what, f"add ReadWritePaths={path} ({edit})", setting=setting)


def _is_within(path: Path, directory: str) -> bool:
    return path == Path(directory) or Path(directory) in path.parents


def _same(one: str, other: Path) -> bool:
    return os.path.realpath(one) == os.path.realpath(other)


def _problem(unit: Unit, what: str, todo: str, level: str = WARNING, setting: str = "") -> Problem:
    return Problem(what, todo, unit.source, setting, level)
