"""HostStore: the machines agents run on, their inventory and samples."""

import builtins
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from sqlalchemy import select, update

from ..principal import Principal
from . import schema
from .chunk_points import ChunkPointStore
from .engine import AnyRow, Database
from .errors import NotFound
from .points import MetricSummary, Series
from .text import clean_text, load_json
from .windows import window_metrics, window_series

#: Bound parameters in one statement; every database allows more.
MACHINES_PER_QUERY = 500
#: "Seen" is written down at most this often for requests that carry nothing else.
TOUCH_EVERY_S = 5.0


@dataclass(frozen=True)
class Host:
    """One machine. seen is when an agent there last spoke (ns)."""

    id: int
    points_id: int
    machine: str
    host: str
    agent: str
    seen: int
    inventory: dict[str, Any]


class AgentInfo(Protocol):
    """What an agent says of itself."""

    @property
    def version(self) -> str: ...
    @property
    def machine(self) -> str: ...
    @property
    def host(self) -> str: ...


class HostStore:
    """Hosts of one entity, and windows of samples as series over time."""

    def __init__(
        self, database: Database, points: ChunkPointStore, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._database = database
        self._points = points
        self._clock = clock
        self._touched: dict[tuple[int, str], float] = {}

    def list(self, entity_id: int) -> list[Host]:
        """Return the hosts of an entity, by name."""
        query = select(schema.hosts).where(schema.hosts.c.entity_id == entity_id)
        with self._database.read() as connection:
            found = [_host(row) for row in connection.execute(query)]
        return sorted(found, key=lambda host: (host.host, host.machine))

    def get(self, entity_id: int, machine: str) -> Host:
        """Return a host. Raise NotFound."""
        hosts = schema.hosts.c
        query = select(schema.hosts).where(hosts.entity_id == entity_id, hosts.machine == machine)
        with self._database.read() as connection:
            row = connection.execute(query).one_or_none()
        if row is None:
            raise NotFound("there is no host %s" % machine)
        return _host(row)

    def find(self, entity_id: int, machines: Sequence[str]) -> dict[str, Host]:
        """Return those hosts that are known, by machine."""
        hosts = schema.hosts.c
        found = {}
        with self._database.read() as connection:
            for at in range(0, len(machines), MACHINES_PER_QUERY):
                named = hosts.machine.in_(machines[at : at + MACHINES_PER_QUERY])
                for row in connection.execute(
                    select(schema.hosts).where(hosts.entity_id == entity_id, named)
                ):
                    found[row.machine] = _host(row)
        return found

    def touch(self, principal: Principal, agent: AgentInfo, now: int) -> None:
        """Note that an agent has spoken; `now` is ns since 1970. Hosts appear with their first records."""
        key = (principal.entity_id, agent.machine)
        if self._clock() - self._touched.get(key, -TOUCH_EVERY_S) < TOUCH_EVERY_S:
            return
        if len(self._touched) > 100_000:
            self._touched.clear()
        self._touched[key] = self._clock()
        hosts = schema.hosts
        with self._database.write() as transaction:
            where = [
                hosts.c.entity_id == principal.entity_id,
                hosts.c.machine == clean_text(agent.machine)[:128],
            ]
            if not principal.trusted:
                where.append(hosts.c.principal_id.is_(None) | (hosts.c.principal_id == principal.id))
            transaction.execute(update(hosts).where(*where).values(seen=now))

    def metrics(self, host: Host) -> builtins.list[MetricSummary]:
        """Return what is sampled on a host, by name."""
        return window_metrics(self._points, host.points_id)

    def series(
        self,
        host: Host,
        names: Sequence[str],
        *,
        start: int | None = None,
        end: int | None = None,
        buckets: int = 500,
    ) -> tuple[int, dict[str, Series]]:
        """Return windows over time (ns). count is of samples, not of windows."""
        return window_series(self._points, host.points_id, names, start=start, end=end, buckets=buckets)


def _host(row: AnyRow) -> Host:
    return Host(row.id, row.points_id, row.machine, row.host, row.agent, row.seen, load_json(row.inventory))
