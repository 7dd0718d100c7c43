"""The checkpoint: what the agent would otherwise have to find out again. A cache, never the truth.

Positions are the server's to say. What is kept here saves repeating observations after a restart. A file that
cannot be read is set aside and the agent starts without it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

from .streams import StreamKey

FILE = "checkpoint.json"
VERSION = 1


class Checkpoint:
    """Reads and writes <state>/checkpoint.json: {"version", "server", "epoch", "observed":
    {"<uid>/<stream>": state}}.

    What another server was told counts for nothing.
    """

    def __init__(self, state_dir: str, server_url: str) -> None:
        self.path = os.path.join(state_dir, FILE)
        self.epoch: str | None = None  #: of the server, when last read or written
        self._server_url = server_url

    def read(self) -> tuple[dict[StreamKey, str], str | None]:
        """Return what was observed, and a complaint when the file was unusable."""
        try:
            with open(self.path, "rb") as file:
                self.epoch, observed = _parse(file.read(), self._server_url)
            return observed, None
        except FileNotFoundError:
            return {}, None
        except OSError as error:
            return {}, f"{self.path} cannot be read: {error}; going on without it"
        except (ValueError, TypeError, RecursionError) as error:
            aside = self.path + ".corrupt"
            try:
                os.replace(self.path, aside)
            except OSError:
                aside = "nowhere, it cannot be renamed"
            return {}, f"{self.path} is damaged ({error}); set aside as {aside}, going on without it"

    def write(self, observed: Mapping[StreamKey, str], epoch: str | None) -> None:
        """Replace the file, whole or not at all. Raise OSError."""
        directory = os.path.dirname(self.path)
        os.makedirs(directory, mode=0o700, exist_ok=True)
        temporary = self.path + ".new"
        states = {f"{uid}/{stream.hex()}": state for (uid, stream), state in observed.items()}
        fields = {"version": VERSION, "server": self._server_url, "epoch": epoch, "observed": states}
        content = json.dumps(fields).encode()
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            with open(fd, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, self.path)
        except OSError:
            try:
                os.unlink(temporary)
            except OSError:
                pass
            raise
        _fsync_directory(directory)


def _parse(content: bytes, server_url: str) -> tuple[str | None, dict[StreamKey, str]]:
    fields: Any = json.loads(content)
    if not isinstance(fields, dict) or fields.get("version") != VERSION:
        raise ValueError("not a checkpoint of this version")
    epoch, states = fields.get("epoch"), fields.get("observed")
    if not isinstance(states, dict) or not isinstance(epoch, str | None):
        raise ValueError("its fields are of other types")  # noqa: TRY004 - one kind of error for all
    observed = {}
    for name, state in states.items():
        uid, _, stream = name.partition("/")
        observed[(int(uid), bytes.fromhex(stream))] = str(state)
    if fields.get("server") != server_url:
        return None, {}
    return epoch, observed


def _fsync_directory(path: str) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
