"""Every fault there is, by name, with how often it strikes; and how often it did.

Rates are per simulated second, chances per occasion. Each seed draws its own mix (swarm testing: a fault that
is always there hides what only happens without it).
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, fields


@dataclass
class Faults:
    """0 means never. The defaults are the highest value a seed draws."""

    # The agent and its host: rates.
    agent_killed: float = 0.10  #: at any callback or file system call, and started again
    agent_stopped: float = 0.02  #: SIGTERM, and started again
    agent_frozen: float = 0.03  #: SIGSTOP for a while
    host_suspended: float = 0.02  #: nothing runs for a while
    power_lost: float = 0.012
    clock_jumped: float = 0.03  #: wall time, either way
    state_deleted: float = 0.010  #: the agent's directory, while it is stopped
    checkpoint_damaged: float = 0.010
    # Files: rates.
    run_deleted: float = 0.008
    run_moved: float = 0.015  #: away and back
    segment_deleted: float = 0.010
    bytes_damaged: float = 0.012
    disk_full: float = 0.02  #: for a while
    disk_hung: float = 0.02  #: for a while
    # File system calls of the agent: chances.
    read_failed: float = 0.01
    open_failed: float = 0.01
    stat_failed: float = 0.01
    listing_failed: float = 0.02
    listing_stale: float = 0.10  #: lacks what was made in the last second
    lock_unanswered: float = 0.05
    disk_slow: float = 0.10
    write_failed: float = 0.02  #: the agent's own
    # Writers: chances per record.
    writer_killed: float = 0.02
    write_torn: float = 0.008  #: killed within a write
    write_seen_half: float = 0.3  #: of reads of what is just being written
    write_short: float = 0.02  #: and taken back
    truncate_failed: float = 0.3  #: of short writes: not taken back
    writer_forked: float = 0.01
    pid_reused: float = 0.3  #: of new processes
    # Hints and time stamps: chances.
    hint_lost: float = 0.3
    stamps_coarse: float = 0.3  #: of seeds: whole seconds
    stamps_elsewhere: float = 0.2  #: of seeds: another machine's clock
    # The network: chances per request.
    request_lost: float = 0.05
    answer_lost: float = 0.05
    answer_late: float = 0.03  #: after the agent gave up
    request_doubled: float = 0.03
    request_replayed: float = 0.02  #: once more, much later
    partitioned: float = 0.02  #: rate
    # The server: rates, then chances per request.
    server_restarted: float = 0.02
    server_restored: float = 0.012  #: from an older copy, with a new epoch
    key_rotated: float = 0.012
    key_revoked: float = 0.008  #: and given back
    stream_forbidden: float = 0.008  #: for a while
    status_401: float = 0.004
    status_403: float = 0.004
    status_404: float = 0.004
    status_400: float = 0.02
    status_422: float = 0.01
    status_413: float = 0.02
    status_408: float = 0.01
    status_429: float = 0.02
    status_500: float = 0.03
    status_502: float = 0.02
    status_503: float = 0.03
    status_307: float = 0.004
    answer_garbled: float = 0.02  #: 2xx that does not parse
    answer_behind: float = 0.02  #: says less than is stored
    answer_beyond: float = 0.02  #: says more than was sent
    answer_incomplete: float = 0.02  #: leaves streams out
    record_poisoned: float = 0.01  #: of records: the server answers 400 or 413 to whatever holds it
    record_unstorable: float = 0.01  #: of records: bad_lines


NAMES = tuple(field.name for field in fields(Faults))
CALM = Faults(**dict.fromkeys(NAMES, 0.0))


def draw_faults(random: random.Random) -> Faults:
    """Choose which faults there are in a simulation, and how often."""
    share = random.choice((0.1, 0.3, 0.6, 0.9))
    intensity = random.choice((0.3, 1.0, 1.0, 2.0))
    return Faults(
        **{
            field.name: field.default * intensity * random.uniform(0.3, 1.0)  # type: ignore[operator]
            if random.random() < share
            else 0.0
            for field in fields(Faults)
        }
    )


class Fired:
    """How often each fault struck."""

    def __init__(self, note: Callable[[str], None]) -> None:
        self.counts: Counter[str] = Counter()
        self._note = note

    def __call__(self, name: str) -> None:
        assert name in NAMES, name
        self.counts[name] += 1
        self._note(name)
