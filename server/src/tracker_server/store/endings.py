"""What is known of how each writer of a run ended, as facts; run_cause.py says what they mean."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, select

from . import schema
from .host_rows import stored_machine
from .stream_rows import read_header_row
from .text import load_json


@dataclass(frozen=True)
class Ending:
    """What is known of one writer's end. Times are ns. place: (machine, boot), where pids mean something."""

    ordinal: int
    state: str  #: live, gone or ended
    since: int
    exit_code: int | None = None
    exception: dict[str, str] | None = None
    told: dict[str, Any] | None = None  #: facts of its EXIT
    observed: dict[str, Any] | None = None  #: facts of the last OBSERVED
    place: tuple[str, str] = ("", "")
    pid: int | None = None
    stream: bytes = b""
    parent: bytes | None = None  #: the stream of who started it
    role: str | None = None
    rank: int | None = None
    started: int = 0

    @property
    def is_bad(self) -> bool:
        """Whether it died, or ended with another code than 0."""
        return self.state == "gone" or (self.state == "ended" and bool(self.exit_code))

    @property
    def supervises(self) -> bool:
        """Whether its EXIT speaks of another process."""
        return self.state == "ended" and isinstance((self.told or {}).get("pid"), int)

    @property
    def time(self) -> int:
        """Return when it ended, as well as that is known."""
        died = (self.observed or {}).get("died")
        return died if self.state == "gone" and isinstance(died, int) else self.since


def read_endings(connection: Connection, run_id: int) -> list[Ending]:
    """Return what is known of each writer of a run, by ordinal."""
    streams = schema.streams.c
    query = (
        select(
            streams.ordinal,
            streams.stream,
            streams.state,
            streams.state_time,
            streams.exit_code,
            streams.exception,
            streams.ending,
            streams.observed,
            streams.header,
        )
        .where(streams.run_id == run_id)
        .order_by(streams.ordinal)
    )
    found = []
    for row in connection.execute(query):
        header = read_header_row(row.header)
        found.append(
            Ending(
                ordinal=row.ordinal,
                state=row.state,
                since=row.state_time,
                exit_code=row.exit_code,
                exception=_map(row.exception),
                told=_map(row.ending),
                observed=_map(row.observed),
                place=("", "") if header is None else (stored_machine(header.machine), header.boot),
                pid=None if header is None else header.pid,
                stream=row.stream,
                parent=None if header is None else header.parent,
                role=None if header is None else header.role,
                rank=None if header is None else header.rank,
                started=0 if header is None else header.started,
            )
        )
    return found


def _map(text: str | None) -> dict[str, Any] | None:
    return None if text is None else load_json(text)
