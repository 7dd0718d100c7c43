"""What an agent's own stream tells beside samples of its machine: samples of runs' processes, and events."""

from dataclasses import replace

from ..principal import Principal
from ..store.transaction import Transaction
from .records import Records

#: Clocks of hosts go wrong: an event from further ahead would be the newest one for years.
AHEAD_MAX_NS = 24 * 3600 * 10**9


def keep_writer_samples(
    transaction: Transaction, principal: Principal, ordinal: int, records: Records
) -> bool:
    """Keep samples of writers' processes; return whether there were any.

    An agent is believed about its own principal's streams, and a trusted one about all of the entity: as with
    OBSERVED. ordinal: of the agent's stream among those of its host.
    """
    kept = False
    for (uid, stream), samples in records.about.items():
        target = transaction.streams.find(principal.entity_id, uid, stream)
        points_id = None
        if target is not None and target.host_id is not None:
            problem = "SAMPLE about a stream of a host"
        elif target is not None and target.principal_id != principal.id and not principal.trusted:
            problem = "SAMPLE about a stream of another principal"
        else:
            problem = "SAMPLE about streams that have not arrived, too many of them"
            arrived = target is not None
            points_id = transaction.writer_samples.ensure(principal, uid, stream, arrived=arrived)
        if points_id is None:
            records.count(problem, int(samples.offset[0]), samples.records)
            continue
        samples.ordinal = ordinal
        transaction.append_points(points_id, samples)
        kept = True
    return kept


def keep_events(transaction: Transaction, host_id: int, records: Records, now: int) -> None:
    """Keep what happened to a host."""
    events = []
    for offset, event in records.events:
        if not 0 <= event.time <= now + AHEAD_MAX_NS:
            records.count("ALERT: its time cannot be, that of its arrival was taken", offset)
            event = replace(event, time=now)
        events.append(event)
    transaction.host_events.add(host_id, events)
