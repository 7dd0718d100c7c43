"""Records that the server will never take, decided once for each: the agent has to find and give them up."""

from __future__ import annotations

from typing import Any

from .faults import Faults, Fired
from .files_of_writers import WriterFiles
from .world import World


class Verdicts:
    """What is wrong with a record: "", or the answer that whatever holds it gets: 400, 413, bad_lines."""

    def __init__(self, world: World, faults: Faults, fired: Fired, files: WriterFiles) -> None:
        self._world = world
        self._faults = faults
        self._fired = fired
        self._files = files
        self._known: dict[tuple[bytes, int], str] = {}

    def of(self, stream: bytes, position: int) -> str:
        """Return the verdict on the line at a position. HEADERs are taken always."""
        known = self._known.get((stream, position))
        if known is None:
            known = ""
            line = self._files.ledger.get(stream, {}).get(position)
            if line is not None and line.data[1]:
                if self._world.chance(self._faults.record_poisoned):
                    known = self._world.random.choice(("400", "413"))
                    self._fired("record_poisoned")
                elif self._world.chance(self._faults.record_unstorable):
                    known = "bad_lines"
                    self._fired("record_unstorable")
            self._known[stream, position] = known
        return known

    def is_refused(self, stream: bytes, position: int) -> bool:
        """Return whether a server refused this line for itself."""
        return bool(self._known.get((stream, position)))

    def found_in(self, entries: list[Any], verdict: str) -> bool:
        """Return whether some line of a request has this verdict."""
        for stream, offset, content, _ in entries:
            if isinstance(content, bytes):
                ledger = self._files.ledger.get(stream, {})
                at = offset
                while at < offset + len(content) and at in ledger:
                    if self.of(stream, at) == verdict:
                        return True
                    at += len(ledger[at].data)
        return False
