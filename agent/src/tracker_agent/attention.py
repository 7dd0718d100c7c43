"""What needs an operator's attention, a sentence each: what is wrong, what it means, what to do.

Made of the status alone, so that `status`, `top` and a support bundle say the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from .losses import reason_of
from .readable import size

#: Lines of one sort that are told; --json has them all.
SHOWN_MAX = 10

#: What to do about a parked stream, by code.
_REMEDIES = {
    "forbidden": "the run belongs to someone else: ask its owner for a grant, or use the owner's key",
    "diverged": (
        "the file was changed or restored from a copy; it is kept and nothing more of it is shipped "
        "(`tracker-agent replay --as-new` ships it as a new stream)"
    ),
    "bad_stream": "the server cannot accept this stream; the file is kept",
    "bad_lines": "the file is damaged where the server cannot follow; the file is kept",
    "no key": "the run's owner stores a key with `tracker login`, or the operator lists the server",
}
#: Parts of "shipping" that bring problems of their own, and what a problem of theirs begins with.
_PARTS = {
    "retention": "retention",
    "files": "files",
    "evidence": "evidence",
    "stop_requests": "requests to stop",
    "credentials": "credentials",
    "handovers": "handed over",
    "own": "the agent's own streams",
}
#: Under these names a part lists what is wrong.
_LISTS = ("problems", "over_limit", "refused", "waiting")
_ANSWERED = re.compile(r"\d{3}[: ]")


def problems(status: Mapping[str, Any]) -> Iterable[str]:
    """Yield a sentence for everything that needs attention, the gravest first."""
    shipping = status["shipping"]
    yield from _losses(shipping)
    yield from _agent(status)
    yield from _servers(shipping)
    for each in [*status["spools"], *shipping.get("spools", [])]:
        if each.get("problem"):
            yield f"spool {each['path']}: {each['problem']}"
    yield from _streams(shipping)
    for part, name in _PARTS.items():
        yield from _part(name, shipping.get(part))
    yield from _sampler(status["sampler"])


def _losses(shipping: Mapping[str, Any]) -> Iterable[str]:
    losses = sorted(shipping.get("losses", {}).items(), key=lambda item: -item[1]["bytes"])
    yield from _cut(loss_text(reason, loss) for reason, loss in losses)


def loss_text(reason: str, loss: Mapping[str, Any]) -> str:
    """Return what one reason has cost."""
    if reason_of(reason).code.startswith("file_"):
        return f"lost: {plural(loss['gaps'], 'file')}, {size(loss['bytes'])}: {reason}"
    return f"lost: {size(loss['bytes'])} in {plural(loss['gaps'], 'gap')}: {reason}"


def _agent(status: Mapping[str, Any]) -> Iterable[str]:
    agent = status["agent"]
    yield from agent["warnings"]
    if agent["reload_problem"]:
        yield (
            f"the last reload was refused, the old configuration is in force: {agent['reload_problem']} "
            "→ mend it, then `systemctl reload tracker-agent` (or SIGHUP)"
        )
    for name in agent["stuck"]:
        yield f"{name} is stuck → the watchdog restarts the agent; without systemd, restart it"
    tasks = {**status["tasks"], **status["shipping"].get("tasks", {})}
    for name, task in tasks.items():
        if task["crashes"]:
            yield (
                f"{name} crashed {plural(task['crashes'], 'time')} and was restarted: {task['last_error']} "
                "→ please report it, with `tracker-agent support-bundle`"
            )
    metrics = status.get("metrics")
    if metrics and metrics["problem"]:
        yield f"{metrics['problem']} → free the address or change metrics.listen; it is tried again"
    if agent.get("log_lines_dropped"):
        yield f"{plural(agent['log_lines_dropped'], 'line')} of the log were dropped: nobody takes them"


def _servers(shipping: Mapping[str, Any]) -> Iterable[str]:
    away: set[str] = set()
    for server in shipping.get("servers", []):
        if server.get("problem"):
            yield f"{server['name']}: {server['problem']}"
        if server["state"] == "retrying":
            away.add(server["url"])
            yield _away(server["url"], server["reason"])
        elif server["state"] == "parked":
            away.add(server["url"])
            yield (
                f"nothing is shipped to {server['url']}: {server['reason']} → nothing is lost; mend "
                f"{server['name']}.url or the server, then reload the agent"
            )
    for lane in shipping.get("lanes", []):
        if lane.get("server") in away:
            continue
        if lane["state"] == "parked":
            yield (
                f"nothing is shipped with the key of {lane['credential']}: {lane['reason']} → nothing is "
                "lost; mend the key, or the URL it is for; a key in a file is read again by itself"
            )
        elif lane["state"] == "retrying":
            yield _away(str(lane.get("server", "the server")), lane["reason"])


def _away(url: str, reason: str) -> str:
    """Say that a server takes nothing for now; whether it answers makes a difference to who looks for why."""
    if _ANSWERED.match(reason):
        return f"{url} answers, but takes nothing for now: {reason} → nothing is lost; it is tried again"
    return f"{url} cannot be reached: {reason} → nothing is lost; it is tried again"


def _streams(shipping: Mapping[str, Any]) -> Iterable[str]:
    if shipping.get("unobserved"):
        yield (
            f"the end of {plural(shipping['unobserved'], 'stream')} cannot be written down, so their runs "
            "show as running: is the disk of the state directory full?"
        )
    yield from _cut(
        f"parked: run {each['run']} ({each['path']}): {each['code']}: {each['reason']}"
        + (f" → {_REMEDIES[each['code']]}" if each["code"] in _REMEDIES else "")
        for each in shipping.get("parked", [])
    )
    foreign = shipping.get("foreign", [])
    yield from _cut(f"ignored: {each['path']}: {each['reason']}" for each in foreign)


def _part(name: str, status: Any) -> Iterable[str]:
    """Yield what a part of the pipeline says is wrong: sentences, or paths with reasons."""
    if not isinstance(status, Mapping):
        return
    found = [each for key in _LISTS for each in _listed(status, key)]
    yield from _cut(
        f"{name}: {each['path']}: {each['reason']}" if isinstance(each, Mapping) else f"{name}: {each}"
        for each in found
    )
    for lane in _listed(status, "lanes"):
        if lane["state"] in ("parked", "retrying") and lane.get("reason"):
            yield f"{name} of {lane['credential']} at {lane['server']}: {lane['state']}: {lane['reason']}"


def _listed(status: Mapping[str, Any], key: str) -> list[Any]:
    value = status.get(key)
    return value if isinstance(value, list) else []


def _sampler(sampler: Mapping[str, Any] | None) -> Iterable[str]:
    if sampler is None:
        return
    for name, each in sampler["collectors"].items():
        if each["state"] in ("failing", "degraded", "stuck"):
            yield f"collector {name} is {each['state']}: {each['reason']}"
    if sampler["records_lost"]:
        lost = plural(sampler["records_lost"], "record")
        yield f"{lost} of host metrics could not be written: is the disk full?"


def _cut(lines: Iterable[str]) -> Iterable[str]:
    every = list(lines)
    yield from every[:SHOWN_MAX]
    if len(every) > SHOWN_MAX:
        yield f"… and {len(every) - SHOWN_MAX} more, see --json"


def plural(count: int, noun: str) -> str:
    """Return "1 gap", "2 gaps"."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
