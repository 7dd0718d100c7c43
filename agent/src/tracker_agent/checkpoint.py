"""The checkpoint: what the agent would otherwise have to find out again. A cache, never the truth.

Positions are the server's to say. What is kept here saves repeating observations after a restart. A file that
cannot be read is set aside and the agent starts without it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from .disk import Disk
from .streams import StreamKey

FILE = "checkpoint.json"
VERSION = 2


class Sighting(NamedTuple):
    """Where a stream lay whose writer was seen alive, and the credential with which that was told."""

    credential: str
    root: str
    path: str


@dataclass(slots=True)
class Remembered:
    """What is known of one server, and what it was told: the state of each stream's writer."""

    epoch: str | None = None
    observed: dict[StreamKey, str] = field(default_factory=dict)
    sightings: dict[StreamKey, Sighting] = field(default_factory=dict)  #: of those observed to be "live"

    def to_json(self) -> dict[str, Any]:
        """Return what is written of one server."""
        observed = {f"{uid}/{stream.hex()}": state for (uid, stream), state in self.observed.items()}
        sightings = {f"{uid}/{stream.hex()}": seen for (uid, stream), seen in self.sightings.items()}
        return {"epoch": self.epoch, "observed": observed, "sightings": sightings}

    def forget(self, key: StreamKey) -> bool:
        """Forget a stream. Return whether it was known."""
        self.sightings.pop(key, None)
        return self.observed.pop(key, None) is not None


class Checkpoint:
    """Reads and writes <state>/checkpoint.json.

    {"version": 2, "servers": {url: {"epoch": …, "observed": {"<uid>/<stream>": state},
                                     "sightings": {"<uid>/<stream>": [credential, root, path]}}}}
    """

    def __init__(self, state_dir: str, disk: Disk) -> None:
        self.path = os.path.join(state_dir, FILE)
        self._disk = disk

    def read(self) -> tuple[dict[str, Remembered], str | None]:
        """Return what is known by server, and a complaint when the file was unusable."""
        try:
            return _parse(self._disk.read_file(self.path)), None
        except FileNotFoundError:
            return {}, None
        except OSError as error:
            return {}, f"{self.path} cannot be read: {error}; going on without it"
        except (ValueError, TypeError, RecursionError) as error:
            aside = self.path + ".corrupt"
            try:
                self._disk.rename(self.path, aside)
            except OSError:
                aside = "nowhere, it cannot be renamed"
            return {}, f"{self.path} is damaged ({error}); set aside as {aside}, going on without it"

    def write(self, servers: Mapping[str, Remembered]) -> None:
        """Replace the file, whole or not at all. Raise OSError."""
        fields = {"version": VERSION, "servers": {url: known.to_json() for url, known in servers.items()}}
        self._disk.replace_file(self.path, json.dumps(fields).encode())


def _parse(content: bytes) -> dict[str, Remembered]:
    fields: Any = json.loads(content)
    if not isinstance(fields, dict) or fields.get("version") not in (1, VERSION):
        raise ValueError("not a checkpoint of this version")
    # Version 1 knew one server.
    servers = {fields["server"]: fields} if fields["version"] == 1 else fields.get("servers")
    if not isinstance(servers, dict):
        raise ValueError("its fields are of other types")  # noqa: TRY004 - one kind of error for all
    return {str(url): _parse_server(known) for url, known in servers.items()}


def _parse_server(fields: Any) -> Remembered:
    if not isinstance(fields, dict):
        raise ValueError("its fields are of other types")  # noqa: TRY004
    epoch, states = fields.get("epoch"), fields.get("observed")
    sightings = fields.get("sightings", {})
    if not isinstance(states, dict) or not isinstance(sightings, dict) or not isinstance(epoch, str | None):
        raise ValueError("its fields are of other types")  # noqa: TRY004
    known = Remembered(epoch)
    for name, state in states.items():
        known.observed[_key(name)] = str(state)
    for name, (credential, root, path) in sightings.items():
        known.sightings[_key(name)] = Sighting(str(credential), str(root), str(path))
    return known


def _key(name: str) -> StreamKey:
    uid, _, stream = name.partition("/")
    key = (int(uid), bytes.fromhex(stream))
    if len(key[1]) != 16:
        raise ValueError("a stream has no id")
    return key
