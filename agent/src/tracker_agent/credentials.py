"""Whose key ships a stream: that of the account the run names, else its owner's own, else the operator's.

A run's HEADER may name a server and an account. The server must be one of the operator's; the account's key
must lie in <spool>/<uid>/credentials, a file of the run's owner (docs/record-format.md). Changed files are
taken up without a restart.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tracker.protocol.header import valid_account
from tracker.protocol.layout import CREDENTIALS_FILE

from .disk import Disk
from .opening import Refused
from .own_stream import DEFAULT
from .server_settings import parse_key
from .setting_values import NO_UID_MAP, UidMap, canonical_url
from .settings import DEFAULT_SERVER, ServerSettings
from .watched_file import WatchedFile

_BYTES_MAX = 64 * 1024
#: A user's further keys are not looked at.
KEYS_PER_USER_MAX = 64
#: How often the operator's key files are looked at; a refused key is replaced this soon, too.
KEY_FILES_S = 2.0
#: The account of keys that ship runs which name none.
NO_ACCOUNT = ""


@dataclass(frozen=True, slots=True)
class Credential:
    """A key for one server, and the name of the agent's own stream that travels with it."""

    name: str
    server: str  #: its URL
    key: str | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class UserKeys:
    """What one credentials file says: the key of each (server, account).

    server is an address in canonical form, or "" for the operator's default server, whatever its address.
    """

    path: str
    keys: Mapping[tuple[str, str], str] = field(default_factory=dict, repr=False)
    problem: str = ""  #: why the file, which is there, cannot be used


class Credentials:
    """Decides which credential ships a stream. Users' keys are told as they are read."""

    def __init__(
        self, servers: Sequence[ServerSettings], one_key: bool = False, uid_map: UidMap = NO_UID_MAP
    ) -> None:
        """Take the operator's servers, the default one first. one_key: its key ships everything."""
        self._one_key = one_key
        self._uid_map = uid_map
        names = [DEFAULT_SERVER, *(server.section.rpartition(".")[2] for server in servers[1:])]
        self._servers = dict(zip(names, servers, strict=True))
        self._by_url = {canonical_url(server.url): name for name, server in self._servers.items()}
        self._operators = {name: server.key or None for name, server in self._servers.items()}
        self._files = {
            name: WatchedFile(server.key_file) for name, server in self._servers.items() if server.key_file
        }
        self._users: dict[int, dict[str, UserKeys]] = {}
        self.problems: list[str] = []

    @property
    def default(self) -> Credential:
        """The operator's credential for the default server, whose key may be missing."""
        return self._operators_own(DEFAULT_SERVER)

    def of(self, uid: int, server: str | None = None, account: str | None = None) -> Credential | str:
        """Return the credential for streams of a uid, a server and an account, or why there is none."""
        if self._one_key:
            return self.default
        return self._of_user(self._uid_map.user(uid), server, account)

    def _of_user(self, uid: int, server: str | None, account: str | None) -> Credential | str:
        name = DEFAULT_SERVER if server is None else self._by_url.get(canonical_url(server))
        if name is None:
            allowed = ", ".join(each.url for each in self._servers.values())
            return (
                f"the run asks for the server {_shown(server)}, which is not one of those that this host's "
                f"operator allows ({allowed}): ask him to add it, or set TRACKER_BASE_URL to one of them"
            )
        wanted = NO_ACCOUNT if account is None else account
        key = self._users_key(uid, name, wanted)
        if key is not None and key != self._operators[name]:
            own = f"uid-{uid}-{wanted}" if wanted else f"uid-{uid}"
            return Credential(_qualified(name, own), self._servers[name].url, key)
        problem = self._problem_of(uid)
        if key is None and problem:
            return f"{problem}; until that is mended nothing of uid {uid} is shipped with anybody else's key"
        if key is None and wanted:
            return (
                f"there is no key of the account {_shown(wanted)} for {self._servers[name].url} in the "
                f"{CREDENTIALS_FILE} of uid {uid}: let the owner run `tracker login --account {wanted}`"
            )
        if name != DEFAULT_SERVER and self._operators[name] is None:
            return (
                f"there is no key for the server {self._servers[name].url}: let the owner (uid {uid}) set "
                f"TRACKER_API_KEY, or set {self._servers[name].section}.key_file"
            )
        return self._operators_own(name)

    def named(self, name: str) -> Credential | str:
        """Return the credential that one of the agent's own stream directories belongs to."""
        match = re.fullmatch(r"(?:([a-z0-9-]+)\.)?(?:uid-(\d+)(?:-([A-Za-z0-9_-]+))?|default)", name)
        if match is None:
            return self.default
        server, uid, account = match.groups()
        if server is not None and server not in self._servers:
            return f"the server {server!r} is no longer in the configuration"
        if uid is None:
            return self._operators_own(server or DEFAULT_SERVER)
        credential = self._of_user(int(uid), self._servers[server].url if server else None, account)
        if isinstance(credential, Credential) and credential.name != name:
            # What it says about a user's runs is for whom his key belongs to.
            return f"the key of uid {uid} that it was written for is not known"
        return credential

    def set(self, uid: int, keys: UserKeys) -> bool:
        """Take note of what a credentials file of a user says. Return whether that changed anything."""
        files = self._users.setdefault(self._uid_map.user(uid), {})
        former = files.get(keys.path, UserKeys(keys.path))
        if keys.problem:
            # No evidence that the keys read before are no longer his.
            keys = replace(keys, keys=former.keys)
        files[keys.path] = keys
        return keys != former

    def read_key_files(self) -> dict[str, str]:
        """Return the keys in the operator's key files that changed, by server. Changes no credential yet."""
        changed: dict[str, str] = {}
        problems = []
        for name, file in self._files.items():
            setting = self._servers[name].name_of("key_file")
            try:
                content = file.read_if_changed()
                if content is not None:
                    changed[name] = parse_key(content.decode("utf-8", "replace"))
            except (OSError, ValueError) as error:
                said = error.strerror if isinstance(error, OSError) and error.strerror else error
                problems.append(f"{setting} {file.path}: {said}; the former key stays in use")
        self.problems = problems
        return changed

    def take(self, keys: Mapping[str, str]) -> bool:
        """Put keys that read_key_files() returned into force. Return whether anything changed."""
        new = {name: key or None for name, key in keys.items() if self._operators[name] != (key or None)}
        self._operators.update(new)
        return bool(new)

    async def follow_key_files(
        self, in_thread: Callable[..., Awaitable[dict[str, str]]], changed: Callable[[], None]
    ) -> None:
        """Take up the keys that the operator changes in their files, for ever; tell of each change."""
        while self._files:
            await asyncio.sleep(KEY_FILES_S)
            if self.take(await in_thread(self.read_key_files)):
                changed()

    def _operators_own(self, server: str) -> Credential:
        return Credential(_qualified(server, DEFAULT), self._servers[server].url, self._operators[server])

    def _problem_of(self, uid: int) -> str:
        files = self._users.get(uid, {}).values()
        return next((f"{keys.path}: {keys.problem}" for keys in files if keys.problem), "")

    def _users_key(self, uid: int, server: str, account: str) -> str | None:
        url = canonical_url(self._servers[server].url)
        found = None
        for keys in self._users.get(uid, {}).values():
            found = keys.keys.get((url, account)) or found
            if server == DEFAULT_SERVER:
                found = found or keys.keys.get(("", account))
        return found


def read_user_keys(disk: Disk, root: str, user: str, uid: int) -> UserKeys:
    """Return the keys that a user keeps in <root>/<user>/credentials; none where there is no such file.

    Raise Refused, OSError.
    """
    path = f"{root}/{user}/{CREDENTIALS_FILE}"
    try:
        content = disk.read_user_file(root, user, uid, CREDENTIALS_FILE, _BYTES_MAX)
    except FileNotFoundError:
        return UserKeys(path)
    return UserKeys(path, parse_user_keys(content))


def parse_user_keys(content: bytes) -> dict[tuple[str, str], str]:
    """Return the key of each (server, account) in a credentials file. Raise Refused when it is none."""
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise Refused("the credentials are not JSON: see `tracker login`") from error
    if not isinstance(document, dict):
        raise Refused("the credentials are no JSON object: see `tracker login`")
    keys: dict[tuple[str, str], str] = {}
    for server, account, key in list(_entries(document))[:KEYS_PER_USER_MAX]:
        if not isinstance(server, str) or not (account == NO_ACCOUNT or valid_account(account)):
            raise Refused(
                "the credentials name a server or an account that cannot be one: see `tracker login`"
            )
        if not isinstance(key, str) or not key.isascii() or not key.strip().isprintable():
            raise Refused("a key in the credentials is not one: expected tk_...")
        if key.strip():
            keys[canonical_url(server) if server else "", account] = key.strip()
    return keys


def _entries(document: dict[str, Any]) -> Iterable[tuple[Any, Any, Any]]:
    if "keys" not in document:
        # The first form: {server URL: key}.
        yield from ((server, NO_ACCOUNT, key) for server, key in document.items())
        return
    entries = document["keys"]
    for each in entries if isinstance(entries, list) else [None]:
        if not isinstance(each, dict):
            raise Refused('the credentials are not of the form {"version": 1, "keys": [{...}]}')
        yield each.get("server", ""), each.get("account", NO_ACCOUNT), each.get("key")


def _qualified(server: str, name: str) -> str:
    return name if server == DEFAULT_SERVER else f"{server}.{name}"


def _shown(text: str | None) -> str:
    """Return what a HEADER says, short enough for a message."""
    return repr((text or "")[:200])
