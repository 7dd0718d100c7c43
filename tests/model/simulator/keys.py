"""Who may carry what: the operator's keys and the users' own, and which server a stream is for."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .model_server import ModelServer
from .sim_disk import SimDisk
from .trainings import SPOOL

if TYPE_CHECKING:
    from .agent_process import AgentProcess


@dataclass
class User:
    """A user, and the keys he had for each server, the newest last. None: the operator's is used."""

    uid: int
    keys: dict[str, list[str]] = field(default_factory=dict)


class Keys:
    """Everybody's keys. The entity of a key is its server's only one: each stream is there once."""

    def __init__(
        self, disk: SimDisk, urls: Sequence[str], users: int, agents: Callable[[], Sequence[AgentProcess]]
    ) -> None:
        self.operators = {url: f"tk_ops_{number}" for number, url in enumerate(urls)}
        self.users = [User(1000 + number) for number in range(users)]
        self.server_of: dict[bytes, str] = {}  #: of streams that name one
        self._disk = disk
        self._urls = urls
        self._agents = agents
        self._given = 0

    def give(self, user: User, servers: Mapping[str, ModelServer]) -> list[tuple[str, str]]:
        """Give a user new keys and put them into his file. Return (server, key) of those he had."""
        old = [(url, keys[-1]) for url, keys in user.keys.items()]
        for url in self._urls:
            self._given += 1
            key = f"tk_{user.uid}_{self._given}"
            user.keys.setdefault(url, []).append(key)
            servers[url].keys[key] = "entity"
        node = self._disk.create(f"{SPOOL}/{user.uid}/.new", user.uid)
        node.data += json.dumps({url: keys[-1] for url, keys in user.keys.items()}).encode()
        node.durable = len(node.data)
        self._disk.rename(f"{SPOOL}/{user.uid}/.new", f"{SPOOL}/{user.uid}/credentials")
        return old

    def note_server(self, stream: bytes, server: str | None) -> None:
        """Take note of the server that a stream's HEADER names."""
        if server is not None:
            self.server_of[stream] = server

    def in_force(self, url: str) -> list[str]:
        """Return the keys that a server should know."""
        return [self.operators[url], *(user.keys[url][-1] for user in self.users if user.keys)]

    def give_back_all(self, url: str, server: ModelServer) -> None:
        """Let a server know every key that is in force."""
        for key in self.in_force(url):
            server.keys[key] = "entity"

    def may_carry(self, url: str, key: str, uid: int, stream: bytes) -> bool:
        """Return whether a stream may go to a server with this key."""
        if uid == 0:
            names = [agent.own_streams[stream] for agent in self._agents() if stream in agent.own_streams]
            server, _, name = names[0].rpartition(".")
            if url != (self._urls[1] if server else self._urls[0]):
                return False
            uid = int(name.removeprefix("uid-")) if name.startswith("uid-") else 0
        elif url != self.server_of.get(stream, self._urls[0]):
            return False
        keys = next((user.keys for user in self.users if user.uid == uid and user.keys), None)
        return key == self.operators[url] if keys is None else key in keys[url]
