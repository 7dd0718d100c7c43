"""What the API answers with: one class per shape. openapi.json is made from these.

Times are integer nanoseconds since 1970. Numbers that are not finite travel as strings, because
JSON has no others.
"""

from __future__ import annotations

from typing import Any, Literal

from msgspec import UNSET, Struct, UnsetType

Number = float | Literal["NaN", "Infinity", "-Infinity"]


class Error(Struct, omit_defaults=True):
    """Every answer with a status of 400 and above."""

    error: str
    reason: str
    hint: str | None = None


class ServerAnswer(Struct):
    """What an agent learns before it sends anything. protocol is the oldest and newest spoken."""

    server: str
    version: str
    protocol: tuple[int, int]
    capabilities: list[str]
    epoch: str


class Ready(Struct):
    """Whether the server is well."""

    status: str


class Me(Struct):
    """Who is asking, and what the credential allows."""

    principal: str
    kind: str
    entity: str
    scopes: list[str]


class Done(Struct):
    """It was done."""

    ok: bool = True


# --- ingest ---


class StreamAnswer(Struct, omit_defaults=True):
    """What became of one stream's entries; `next` is where it is to go on."""

    uid: int
    stream: str
    next: int | UnsetType | None = UNSET
    error: str | UnsetType = UNSET
    reason: str | UnsetType = UNSET
    at: int | UnsetType = UNSET


class IngestAnswer(Struct):
    """One answer per distinct stream of the request, in order of first mention."""

    epoch: str
    streams: list[StreamAnswer]


class StreamOffset(Struct):
    """Where a stream goes on, and the checksum and offset of its last line (null after a gap)."""

    uid: int
    stream: str
    next: int
    crc: int | None
    last: int | None


class OffsetsAnswer(Struct):
    """One answer per stream asked for, in order."""

    epoch: str
    streams: list[StreamOffset]


# --- runs ---


class Run(Struct, kw_only=True):
    """One run. cursor counts its METRICS records; steps is the greatest step so far."""

    entity: str
    project: str
    run: str
    name: str
    notes: str
    tags: list[str]
    group: str
    job_type: str
    state: Literal["running", "finished", "failed", "crashed"]
    exit_code: int | None
    created: int
    updated: int
    finished: int | None
    cause: str | None
    user: str
    agent_seen: int | None
    steps: int | None
    points: int
    metrics: int
    cursor: int


class RunRow(Run, kw_only=True):
    """A run as lists show it; host is a name."""

    host: str
    #: The first few summary values, for columns of the list.
    summary: dict[str, Any] | UnsetType = UNSET


class RunsAnswer(Struct):
    """A page of runs; cursor is null on the last, total ignores paging."""

    runs: list[RunRow]
    cursor: str | None
    total: int


class Project(Struct):
    """A project and how many runs it has."""

    entity: str
    project: str
    runs: int
    updated: int | None


class ProjectsAnswer(Struct):
    """Every project of the entity."""

    projects: list[Project]


class Gap(Struct):
    """Bytes of a stream that could not be had, and why."""

    offset: int
    bytes: int
    reason: str


class Lost(Struct):
    """Records a writer had to drop, and why."""

    records: int
    reason: str
    time: int


class Problem(Struct):
    """What was wrong with records that were kept all the same; offset is that of the first."""

    reason: str
    count: int
    offset: int


class StreamState(Struct, kw_only=True):
    """One writer of a run."""

    stream: str
    uid: int
    user: str
    host: str
    pid: int | None
    rank: int | None
    parent: str | None
    role: str | None
    writer: str
    state: Literal["live", "gone", "ended"]
    exit_code: int | None
    exception: dict[str, str] | None
    observed: dict[str, Any] | None
    ending: dict[str, Any] | None
    machine: str
    stop: bool
    next: int
    gaps: list[Gap]
    lost: list[Lost]
    problems: list[Problem]


class Host(Struct):
    """A machine, and when an agent there last spoke."""

    machine: str
    host: str
    seen: int
    inventory: dict[str, Any]


class HostsAnswer(Struct):
    """Every host of the entity."""

    hosts: list[Host]


class HostEvent(Struct):
    """Something that happened to a machine; facts say so to programs."""

    time: int
    level: Literal["info", "warn", "error"]
    title: str
    text: str
    facts: dict[str, Any]


class HostEventsAnswer(Struct):
    """Events, the newest first. more: there are older ones in the window asked for."""

    events: list[HostEvent]
    more: bool


class RunGpu(Struct):
    """A GPU of a run. streams: indexes of the writers that have it. seen: the driver saw one on it."""

    index: int
    uuid: str | None
    mig: str | None
    name: str | None
    streams: list[int]
    seen: bool


class RunHost(Struct):
    """A machine that writers of a run are on. gpus: those of the run; null where that is not known.

    known: an agent has described the machine. streams: indexes of the writers.
    """

    machine: str
    host: str
    known: bool
    streams: list[int]
    gpus: list[RunGpu] | None


class RunHostsAnswer(Struct):
    """The machines of a run, in the order in which its writers came."""

    hosts: list[RunHost]


class StopDelivery(Struct):
    """What the agent of one host did about a request to stop: "written", or "failed" and why."""

    machine: str
    time: int
    result: str
    reason: str


class StopState(Struct):
    """The newest request to stop a run. done: since when the writers it was for are gone."""

    id: int
    by: str
    asked: int
    done: int | None
    deliveries: list[StopDelivery]


class RunDetail(Run, kw_only=True):
    """One run with all that is known about it but its points, console and values.

    can_stop: it runs, a process of it looks for requests to stop, and the caller may ask.
    """

    machine: str
    host: Host | None
    owner: str
    config: dict[str, Any]
    summary: dict[str, Any]
    fields: dict[str, Any]
    console_lines: int
    streams: list[StreamState]
    stop: StopState | None
    can_stop: bool


# --- points ---


class Metric(Struct):
    """One metric: last is the value at its greatest step; special counts values that were not finite."""

    name: str
    count: int
    special: int
    last: Number
    last_step: int
    min: float | None
    max: float | None


class MetricsAnswer(Struct):
    """Every metric of a run or host."""

    metrics: list[Metric]


class Series(Struct):
    """One entry per bucket that holds points. min, max and mean are over finite values."""

    x: list[int]
    step: list[int]
    time: list[int]
    last: list[Number]
    min: list[float | None]
    max: list[float | None]
    mean: list[float | None]
    count: list[int]
    special: list[int]


class SeriesAnswer(Struct):
    """Series by metric name; names that do not exist are left out."""

    cursor: int
    series: dict[str, Series]


class Points(Struct):
    """Points in order of arrival; stream is an index into `streams` of the answer."""

    step: list[int]
    time: list[int]
    value: list[Number]
    stream: list[int]
    offset: list[int]


class PointsAnswer(Struct):
    """Points by metric name; go on at cursor."""

    cursor: int
    points: dict[str, Points]
    streams: list[str]
    more: bool


class ConsoleLine(Struct):
    """A line of output; stream is stdout or stderr."""

    time: int
    stream: str
    text: str


class ConsoleAnswer(Struct):
    """Lines of output; go on at cursor."""

    cursor: int
    lines: list[ConsoleLine]
    more: bool


class Value(Struct):
    """A rich value as it was logged; stream is an index into `streams` of the answer."""

    time: int
    step: int | None
    name: str
    type: str
    data: Any
    stream: int
    offset: int


class ValuesAnswer(Struct):
    """Rich values."""

    values: list[Value]
    streams: list[str]


# --- accounts ---


class Principal(Struct):
    """A user or service account."""

    entity: str
    name: str
    kind: str


class PrincipalsAnswer(Struct):
    """Every principal of the entity."""

    principals: list[Principal]


class Key(Struct, kw_only=True):
    """An API key, without its secret."""

    id: str
    name: str
    entity: str
    principal: str
    kind: str
    scopes: list[str]
    created: int
    expires: int | None
    used: int | None
    revoked: int | None


class KeysAnswer(Struct):
    """Every key of the entity."""

    keys: list[Key]


class NewKey(Struct):
    """A fresh key: its text is shown here once and stored nowhere."""

    id: str
    key: str
