"""The human form of the status: what is shipped, what is behind, what is wrong and what to do."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from .attention import plural, problems
from .readable import duration, printable, size


def render(status: Mapping[str, Any]) -> str:
    """Return text for a terminal."""
    agent, shipping = status["agent"], status["shipping"]
    health = status.get("health") or {}
    state = f", {health['state']}" if health.get("state") else ""
    lines = [
        (
            f"tracker-agent {agent['version']} on {agent['host']}, pid {agent['pid']}, "
            f"up {duration(agent['uptime_s'])}, {size(agent['rss_bytes'])} of memory{state}"
        ),
        "",
    ]
    lines += _servers(status["server"], shipping)
    lines += _streams(shipping)
    lines += _files(shipping.get("files"))
    lines += _disk(shipping)
    lines += _around(status)
    found = list(problems(status))
    if found:
        lines += ["", "Needs attention", *(f"  ! {problem}" for problem in found)]
    else:
        lines += ["", "Nothing needs attention."]
    return "\n".join(map(printable, lines))


def summary(shipping: Mapping[str, Any]) -> str:
    """Return one line for `systemctl status`."""
    streams = shipping.get("streams", {})
    lanes = shipping.get("lanes", [])
    ill = next((lane for lane in lanes if lane["state"] in ("retrying", "parked")), None)
    server = f"server: {ill['state']} ({ill['reason']})" if ill else "server ok"
    behind = shipping.get("behind", {}).get("bytes", 0)
    parked = f", {streams['parked']} parked" if streams.get("parked") else ""
    return printable(f"{streams.get('live', 0)} live streams, {size(behind)} behind{parked}, {server}")


def _servers(server: Mapping[str, Any], shipping: Mapping[str, Any]) -> Iterable[str]:
    lanes = shipping.get("lanes", [])
    unasked = {"name": "server", "url": server["url"], "reason": ""}
    for each in shipping.get("servers") or [unasked]:
        key = f", key {server['key'] or 'none'}" if each["url"] == server["url"] else ""
        name = "" if each["name"] == "server" else f" ({each['name'].removeprefix('servers.')})"
        version = f", version {each['version']}" if each.get("version") else ""
        state = f"; {each['state']}: {each['reason']}" if each["reason"] else ""
        yield f"Server    {each['url']}{name}{version}{key}{state}{_again(each)}"
        for lane in lanes:
            if lane.get("server", each["url"]) == each["url"]:
                yield f"          {_lane(lane)}"


def _lane(lane: Mapping[str, Any]) -> str:
    contact = lane.get("last_contact_s")
    last = "no contact yet" if contact is None else f"last contact {duration(contact)} ago"
    state = lane["state"] + (f": {lane['reason']}" if lane["reason"] else "")
    return f"{lane['credential']}: {state}; {last}{_again(lane)}"


def _again(each: Mapping[str, Any]) -> str:
    return "" if each.get("next_try_s") is None else f", next try in {duration(each['next_try_s'])}"


def _streams(shipping: Mapping[str, Any]) -> Iterable[str]:
    streams = shipping.get("streams")
    if not streams:
        yield "Streams   not looked at yet"
        return
    behind = shipping.get("behind", {"streams": 0, "bytes": 0})
    yield (
        f"Streams   {streams['known']} known: {streams['live']} live, {streams['shipped']} shipped whole, "
        f"{streams['parked']} parked, {streams['kept']} kept for others or `sync`, "
        f"{plural(streams['foreign'], 'foreign file')}"
    )
    # Until the server has said how far a stream is, all of it counts.
    most = "at most " if behind.get("unasked") else ""
    wait = shipping.get("oldest_wait_s") or 0
    waits = f", waiting for {duration(wait)}" if wait >= 1 else ""
    yield (
        f"Behind    {most}{size(behind['bytes'])} in {plural(behind['streams'], 'stream')}{waits}"
        if behind["bytes"]
        else "Behind    nothing: everything written is on the server"
    )
    shipped, requests = shipping.get("bytes_shipped", 0), shipping.get("requests", 0)
    flight = shipping.get("in_flight")
    room = f"; {size(flight['bytes'])} of {size(flight['bytes_max'])} in flight" if flight else ""
    yield f"Shipped   {size(shipped)} in {plural(requests, 'request')} since the start{room}"


def _files(files: Mapping[str, Any] | None) -> Iterable[str]:
    if not files:
        return
    if not files.get("enabled", True):
        yield "Files     off"
        return
    stored, pending = files.get("stored", {}), files.get("pending", {})
    sent = size(files.get("sent_bytes", 0))
    yield (
        f"Files     {plural(stored.get('files', 0), 'file')} stored ({sent} sent), "
        f"{pending.get('files', 0)} waiting ({size(pending.get('bytes', 0))}), "
        f"{len(files.get('refused', []))} refused"
    )


def _disk(shipping: Mapping[str, Any]) -> Iterable[str]:
    for spool in shipping.get("spools", []):
        watched = "" if spool["watched"] else ", not watched by inotify"
        open_files = plural(spool["open_files"], "open file") if "open_files" in spool else ""
        yield f"Spool     {spool['path']}: {plural(spool['runs'], 'run')}, {open_files}{watched}"
    retention = shipping.get("retention")
    if retention:
        removed = retention["removed"]
        unshipped = removed.get("unshipped_bytes", 0)
        lost = f", {size(unshipped)} of them never shipped" if unshipped else ""
        yield (
            f"Removed   {plural(removed['runs'], 'run')} and {plural(removed['segments'], 'segment')} "
            f"({size(removed['bytes'])}{lost}) since the start"
        )


def _states(collectors: Mapping[str, Any]) -> str:
    """Return how many collectors work, and the names of those in any other state."""
    others: dict[str, list[str]] = {}
    for name, each in collectors.items():
        others.setdefault(each["state"], []).append(name)
    working = len(others.pop("ok", []))
    return "; ".join(
        [
            f"{plural(working, 'collector')} ok",
            *(f"{state}: {', '.join(names)}" for state, names in others.items()),
        ]
    )


def _around(status: Mapping[str, Any]) -> Iterable[str]:
    """Yield what else the agent does: evidence of ends, requests to stop, the sampler, metrics."""
    shipping = status["shipping"]
    evidence = shipping.get("evidence")
    if evidence:
        log = evidence.get("kernel_log", "off")
        yield f"Evidence  {plural(evidence.get('writers', 0), 'writer')} watched, kernel log: {log}"
    stops = shipping.get("stop_requests")
    if stops:
        polls = plural(len(stops.get("polls", [])), "key")
        yield f"Stops     {stops.get('stopped', 0)} runs asked to stop, listening with {polls}"
    sampler = status["sampler"]
    if sampler is None:
        yield "Sampler   off"
    else:
        yield f"Sampler   {plural(sampler['windows'], 'window')}; {_states(sampler['collectors'])}"
    if status.get("gpu_paused_until"):
        until = status["gpu_paused_until"]
        yield f"GPUs      paused until {until}; `tracker-agent pause-gpu --resume` ends that"
    if status.get("metrics"):
        yield f"Metrics   {status['metrics']['listen']}"
