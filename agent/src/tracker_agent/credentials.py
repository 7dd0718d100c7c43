"""Whose key ships whose streams: the owner's own where he left one for this server, else the operator's."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from tracker.protocol.layout import CREDENTIALS_FILE

from .disk import Disk
from .opening import Refused
from .own_stream import DEFAULT

_BYTES_MAX = 64 * 1024


@dataclass(frozen=True, slots=True)
class Credential:
    """A key for one server, and the name of the agent's own stream that travels with it."""

    name: str
    server: str  #: its URL
    key: str | None = field(repr=False)


class Credentials:
    """Decides which credential ships a uid's streams. Users' keys are told as they are read."""

    def __init__(self, server: str, key: str | None) -> None:
        self.default = Credential(DEFAULT, server, key)
        self._own: dict[int, str] = {}

    def of(self, uid: int) -> Credential:
        """Return the credential for streams of that uid."""
        key = self._own.get(uid)
        if key is None or key == self.default.key:
            return self.default
        return Credential(f"uid-{uid}", self.default.server, key)

    def named(self, name: str) -> Credential:
        """Return the credential that one of the agent's own stream directories belongs to."""
        uid = name.removeprefix("uid-")
        return self.of(int(uid)) if name != uid and uid.isdecimal() else self.default

    def set(self, uid: int, key: str | None) -> bool:
        """Take note of a user's key. Return whether it changed."""
        if self._own.get(uid) == key:
            return False
        if key is None:
            del self._own[uid]
        else:
            self._own[uid] = key
        return True


def read_user_key(disk: Disk, root: str, user: str, uid: int, server_url: str) -> str | None:
    """Return the key for a server that a user keeps in <root>/<user>/credentials, or None.

    Raise Refused, OSError.
    """
    try:
        content = disk.read_user_file(root, user, uid, CREDENTIALS_FILE, _BYTES_MAX)
    except FileNotFoundError:
        return None
    try:
        keys = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise Refused("the credentials are not JSON: expected {server URL: key}") from error
    if not isinstance(keys, dict):
        raise Refused("the credentials are no JSON object: expected {server URL: key}")
    for url, key in keys.items():
        if url.rstrip("/") == server_url.rstrip("/"):
            if not isinstance(key, str) or not key.isascii() or not key.strip().isprintable():
                raise Refused("the key in the credentials is not one: expected tk_...")
            return key.strip() or None
    return None
