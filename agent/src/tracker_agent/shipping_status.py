"""What `tracker-agent status` shows of shipping, and which of its loops are stuck. Plain JSON values."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from .allowance import Allowance
from .endpoint import Endpoint, Sender
from .lane import Lane
from .root import Root
from .scanner import Entry
from .settings import ServerSettings
from .streams import Stream
from .watcher import Watcher

#: At most this many streams of each sort are listed.
LISTED_MAX = 200
#: A scan that has not come round for this long, and waits for no disk, is stuck.
SCAN_TURN_S = 60.0
#: A lane that has work, and has not come round for this long after a request must have ended, is stuck.
LANE_TURN_S = 120.0


def stuck_loops(
    roots: Collection[Root],
    lanes: Collection[Lane],
    now: float,
    scan_interval_s: float,
    request_timeout_s: float,
) -> list[str]:
    """Return the loops that should have come round and have not. What waits for a disk or a server is not."""
    scans = [
        f"scan {root.path}"
        for root in roots
        if not root.thread.busy and now - root.turned_at > SCAN_TURN_S + scan_interval_s
    ]
    shipping = [
        f"lane {lane.credential.name}"
        for lane in lanes
        if lane.has_work and now - lane.turned_at > LANE_TURN_S + request_timeout_s
    ]
    return scans + shipping


def shipping_status(
    lanes: Collection[Lane], streams: Collection[Stream], kept: Mapping[Entry, str], roots: Collection[Root]
) -> dict[str, Any]:
    """Return what is shipped and what is not, and why."""
    parked = [stream for stream in streams if stream.parked is not None]
    foreign = {path: reason for root in roots for path, reason in root.scanner.foreign.items()}
    return {
        "lanes": [lane_status(lane) for lane in lanes],
        "streams": {
            "known": len(streams),
            "live": sum(stream.live for stream in streams),
            "shipped": sum(stream.ended for stream in streams),
            "parked": len(parked),
            "kept": len(kept),
            "foreign": len(foreign),
        },
        "behind": behind(streams),
        "parked": [stream.to_json() for stream in parked[:LISTED_MAX]],
        "kept": [
            {"path": entry.place.path, "stream": entry.stream.hex(), "uid": entry.place.uid, "reason": reason}
            for entry, reason in list(kept.items())[:LISTED_MAX]
        ],
        "foreign": [{"path": path, "reason": reason} for path, reason in list(foreign.items())[:LISTED_MAX]],
        "spools": [
            {
                "path": root.path,
                "runs": root.scanner.directories,
                "problem": root.scanner.problem or root.scanner.disk_problem,
                "watched": root.watched,
                "open_files": len(root.files),
                "scan_s": root.scan_s,
            }
            for root in roots
        ],
    }


def behind(streams: Collection[Stream]) -> dict[str, int]:
    """Count what is known to be written and not shipped.

    `unasked`: streams the server was not asked about.
    """
    counts = {"streams": 0, "bytes": 0, "unasked": 0}
    for stream in streams:
        if not stream.ended:
            left = stream.bytes_behind
            counts["streams"] += left > 0
            counts["bytes"] += left
            counts["unasked"] += not stream.learned
    return counts


def servers_status(
    settings: Iterable[ServerSettings], endpoints: Mapping[str, Endpoint], senders: Iterable[Sender]
) -> list[dict[str, Any]]:
    """Return each server as the whole agent sees it."""
    names = {server.url: server.section for server in settings}
    problems = {sender.url: getattr(sender, "problem", None) for sender in senders}
    return [
        {
            "name": names.get(url, url),
            "url": url,
            "state": endpoint.state,
            "reason": endpoint.reason,
            "next_try_s": endpoint.next_try_s,
            "requests_at_once": endpoint.requests_at_once,
            "version": endpoint.server.version if endpoint.server else None,
            "problem": problems.get(url),
        }
        for url, endpoint in endpoints.items()
    ]


def in_flight_status(allowance: Allowance) -> dict[str, int]:
    """Return how much memory records in flight take, of how much they may."""
    memory = allowance.memory
    return {"bytes": memory.used, "bytes_max": memory.units, "waiting": memory.waiting}


def watch_state(watcher: Watcher | None) -> str:
    """Return whether hints are to be had."""
    if watcher is None:
        return "off"
    return watcher.problem or f"on, {watcher.armed} directories"


def lane_status(lane: Lane) -> dict[str, Any]:
    """Return what status shows of a lane, and what health.py goes by."""
    streams = [stream for stream in lane.roster.streams.values() if stream.parked is None]
    return {
        "credential": lane.credential.name,
        "server": lane.credential.server,
        "state": lane.state,
        "reason": lane.reason,
        "last_contact_s": lane.last_contact_s,
        "next_try_s": lane.next_try_s,
        "streams": len(lane.roster.streams),
        "batch_bytes": lane.limit.bytes,
        # What shows whether it gets on: see health.py.
        "behind_bytes": sum(stream.bytes_behind for stream in streams if not stream.ended),
        "positions": sum(stream.position for stream in streams),
    }
