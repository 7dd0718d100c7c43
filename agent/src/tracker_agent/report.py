"""The human form of the status: what is shipped, what is behind, what is wrong and what to do."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

#: Lines of one sort that are shown; --json has them all.
SHOWN_MAX = 10

#: What to do about a parked stream or a refusing server, by code.
_REMEDIES = {
    "forbidden": "the run belongs to someone else: ask its owner for a grant, or use the owner's key",
    "diverged": "the file was changed or restored from a copy; it is kept and nothing more of it is shipped",
    "bad_stream": "the server cannot accept this stream; the file is kept",
    "bad_lines": "the file is damaged where the server cannot follow; the file is kept",
}


def render(status: dict[str, Any]) -> str:
    """Return text for a terminal."""
    agent, shipping = status["agent"], status["shipping"]
    lines = [
        (
            f"tracker-agent {agent['version']} on {agent['host']}, pid {agent['pid']}, "
            f"up {duration(agent['uptime_s'])}, {size(agent['rss_bytes'])} of memory"
        ),
        "",
    ]
    lines += _server(status["server"], shipping)
    lines += _streams(shipping)
    lines += _sampler(status["sampler"])
    found = list(problems(status))
    if found:
        lines += ["", "Needs attention", *(f"  ! {problem}" for problem in found)]
    else:
        lines += ["", "Nothing needs attention."]
    return "\n".join(map(printable, lines))


def printable(text: str) -> str:
    """Return text with what is not printable escaped: a name must not command the terminal."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def summary(shipping: dict[str, Any]) -> str:
    """Return one line for `systemctl status`."""
    streams = shipping.get("streams", {})
    lanes = shipping.get("lanes", [])
    ill = next((lane for lane in lanes if lane["state"] in ("retrying", "parked")), None)
    server = f"server: {ill['state']} ({ill['reason']})" if ill else "server ok"
    behind = shipping.get("behind", {}).get("bytes", 0)
    parked = f", {streams['parked']} parked" if streams.get("parked") else ""
    return printable(f"{streams.get('live', 0)} live streams, {size(behind)} behind{parked}, {server}")


def _server(server: dict[str, Any], shipping: dict[str, Any]) -> Iterable[str]:
    yield f"Server    {server['url']}, key {server['key'] or 'none'}"
    for lane in shipping.get("lanes", []):
        contact = lane.get("last_contact_s")
        last = "no contact yet" if contact is None else f"last contact {duration(contact)} ago"
        state = lane["state"] + (f": {lane['reason']}" if lane["reason"] else "")
        again = lane.get("next_try_s")
        retry = f", next try in {duration(again)}" if again is not None else ""
        yield f"          {lane['credential']}: {state}; {last}{retry}"


def _streams(shipping: dict[str, Any]) -> Iterable[str]:
    streams = shipping.get("streams")
    if not streams:
        yield "Streams   not looked at yet"
        return
    behind = shipping.get("behind", {"streams": 0, "bytes": 0})
    yield (
        f"Streams   {streams['known']} known: {streams['live']} live, {streams['shipped']} shipped whole, "
        f"{streams['parked']} parked, {streams['kept']} kept for others or `sync`, "
        f"{streams['foreign']} foreign files"
    )
    # Until the server has said how far a stream is, all of it counts.
    most = "at most " if behind.get("unasked") else ""
    yield (
        f"Behind    {most}{size(behind['bytes'])} in {behind['streams']} streams"
        if behind["bytes"]
        else "Behind    nothing: everything written is on the server"
    )
    shipped, requests = shipping.get("bytes_shipped", 0), shipping.get("requests", 0)
    yield f"Shipped   {size(shipped)} in {requests} requests since the start"
    for spool in shipping.get("spools", []):
        watched = "" if spool["watched"] else ", not watched by inotify"
        yield f"Spool     {spool['path']}: {spool['runs']} runs{watched}"


def _sampler(sampler: dict[str, Any] | None) -> Iterable[str]:
    if sampler is None:
        yield "Sampler   off"
        return
    states = ", ".join(f"{name} {each['state']}" for name, each in sampler["collectors"].items())
    yield f"Sampler   {sampler['windows']} windows; {states}"


def problems(status: Mapping[str, Any]) -> Iterable[str]:
    """Yield a sentence for everything that needs attention."""
    yield from _agent_problems(status["agent"], status["tasks"])
    shipping = status["shipping"]
    for each in [*status["spools"], *shipping.get("spools", [])]:
        if each.get("problem"):
            yield f"spool {each['path']}: {each['problem']}"
    yield from _shipping_problems(shipping)
    yield from _sampler_problems(status["sampler"])


def _agent_problems(agent: dict[str, Any], tasks: dict[str, Any]) -> Iterable[str]:
    yield from agent["warnings"]
    if agent["reload_problem"]:
        yield (
            f"the last reload was refused, the old configuration is in force: {agent['reload_problem']} "
            "→ mend it, then `systemctl reload tracker-agent` (or SIGHUP)"
        )
    for name in agent["stuck"]:
        yield f"{name} is stuck → the watchdog restarts the agent; without systemd, restart it"
    for name, task in tasks.items():
        if task["crashes"]:
            yield f"{name} crashed {task['crashes']} times and was restarted: {task['last_error']}"


def _shipping_problems(shipping: dict[str, Any]) -> Iterable[str]:
    for lane in shipping.get("lanes", []):
        if lane["state"] == "parked":
            yield (
                f"nothing is shipped with the key of {lane['credential']}: {lane['reason']} → nothing is "
                "lost; mend server.url or the key, then reload the agent"
            )
        elif lane["state"] == "retrying":
            yield f"the server cannot be reached: {lane['reason']} → nothing is lost; it is tried again"
    if shipping.get("unobserved"):
        yield (
            f"the end of {shipping['unobserved']} streams cannot be written down, so their runs show as "
            "running: is the disk of the state directory full?"
        )
    yield from _cut(
        f"parked: run {each['run']} ({each['path']}): {each['code']}: {each['reason']}"
        + (f" → {_REMEDIES[each['code']]}" if each["code"] in _REMEDIES else "")
        for each in shipping.get("parked", [])
    )
    foreign = shipping.get("foreign", [])
    yield from _cut(f"ignored: {each['path']}: {each['reason']}" for each in foreign)
    for reason, loss in shipping.get("losses", {}).items():
        yield f"lost: {size(loss['bytes'])} in {loss['gaps']} gaps: {reason}"


def _sampler_problems(sampler: dict[str, Any] | None) -> Iterable[str]:
    if sampler is None:
        return
    for name, each in sampler["collectors"].items():
        if each["state"] in ("failing", "degraded", "stuck"):
            yield f"collector {name} is {each['state']}: {each['reason']}"
    if sampler["records_lost"]:
        yield f"{sampler['records_lost']} records of host metrics could not be written: is the disk full?"


def _cut(lines: Iterable[str]) -> Iterable[str]:
    every = list(lines)
    yield from every[:SHOWN_MAX]
    if len(every) > SHOWN_MAX:
        yield f"… and {len(every) - SHOWN_MAX} more, see --json"


def size(count: float) -> str:
    """Return bytes in a unit people read."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if count < 1024 or unit == "GiB":
            break
        count /= 1024
    return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"


def duration(seconds: float) -> str:
    """Return seconds in a unit people read."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 2 * 3600:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.0f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.0f} days"
