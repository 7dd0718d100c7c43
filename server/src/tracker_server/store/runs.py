"""RunStore: questions about runs, projects and their streams. Reads only; ingest writes."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Run:
    """One run. Times are ns. id and points_id are the store's own numbers, never shown."""

    id: int
    points_id: int
    entity: str
    project: str
    run: str
    name: str
    notes: str
    tags: list[str]
    group: str
    job_type: str
    state: str  #: running, finished, failed or crashed
    exit_code: int | None
    created: int
    updated: int
    finished: int | None
    user: str
    host: str
    machine: str
    agent_seen: int | None  #: when the agent of its host last spoke
    steps: int | None  #: greatest step so far
    points: int
    metrics: int
    cursor: int  #: METRICS records so far
    console_lines: int
    principal: str  #: name of the owner
    principal_id: int
    uid: int


@dataclass(frozen=True)
class RunPage:
    """Runs in the order asked for. cursor is None on the last page; total ignores paging."""

    runs: list[Run]
    cursor: str | None
    total: int


@dataclass(frozen=True)
class Project:
    entity: str
    project: str
    runs: int
    updated: int


@dataclass(frozen=True)
class Gap:
    offset: int
    bytes: int
    reason: str


@dataclass(frozen=True)
class Lost:
    records: int
    reason: str
    time: int


@dataclass(frozen=True)
class Problem:
    reason: str
    count: int
    offset: int  #: of the first record it was seen at


@dataclass(frozen=True)
class Stream:
    """One writer of a run. ordinal is the index that points and console lines carry."""

    stream: str  #: hex
    ordinal: int
    uid: int
    user: str
    host: str
    pid: int | None
    rank: int | None
    writer: str
    state: str  #: live, gone or ended
    exit_code: int | None
    exception: dict[str, str] | None
    observed: dict[str, Any] | None
    next: int
    gaps: list[Gap]
    lost: list[Lost]
    problems: list[Problem]


@dataclass(frozen=True)
class RunDetail:
    """config and summary as JSON values; summary numbers may be NaN or infinite floats."""

    run: Run
    config: dict[str, Any]
    summary: dict[str, Any]
    fields: dict[str, Any]
    streams: list[Stream]


@dataclass(frozen=True)
class Value:
    """A VALUE record as it was logged."""

    time: int
    step: int | None
    name: str
    type: str
    data: Any
    ordinal: int
    offset: int
