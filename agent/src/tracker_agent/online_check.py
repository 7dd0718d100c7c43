"""Whether the servers of a configuration answer, and take its keys: what check-config --online asks."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from .answers import PROTOCOL_VERSION, Locked, Retry, Server, parse_failure, parse_server
from .config_file import WARNING, Problem, Source
from .exchange import Answer, TransportError
from .settings import Config, ServerSettings
from .transport import Transport

#: A clock that differs by more spoils what is compared over machines, and certificates in the end.
SKEW_MAX_S = 30.0
_KEY_REMEDIES = {
    401: "make a new one with `tracker-server key create --scopes ingest`, and put it into {setting}",
    403: "make one with `tracker-server key create --scopes ingest`, and put it into {setting}",
    404: "check {url}: it may need a path, or lead to something else",
}


def look_at_servers(config: Config, timeout_s: float) -> list[Problem]:
    """Ask every server at once; return what hinders shipping. Nothing is stored there."""

    async def ask_all() -> list[list[Problem]]:
        return await asyncio.gather(
            *(_look_at(each, config, timeout_s) for each in config.servers.values() if each.url)
        )

    return [problem for found in asyncio.run(ask_all()) for problem in found]


async def _look_at(server: ServerSettings, config: Config, timeout_s: float) -> list[Problem]:
    transport = Transport(server, timeout_s=timeout_s, connect_timeout_s=timeout_s)
    try:
        return await _ask(transport, server, config)
    finally:
        await transport.close()


async def _ask(transport: Transport, server: ServerSettings, config: Config) -> list[Problem]:
    source = config.sources.get((server.section, "url"))
    setting = f"{server.section}.url"
    headers = {"X-Tracker-Protocol": str(PROTOCOL_VERSION)}
    try:
        answer = await transport.request("GET", "/api/v1/server", dict(headers))
        verdict = parse_server(answer, datetime.now(UTC).timestamp())
        if not isinstance(verdict, Server):
            todo = f"check that {setting} leads to a Tracker server of this version"
            return [Problem(f"{server.url}: {verdict.reason}", todo, source, setting)]
        found = list(_clock_problems(answer, server, source))
        if server.key:
            headers |= {"Authorization": f"Bearer {server.key}", "Content-Type": "application/json"}
            answer = await transport.request(
                "POST", "/api/v1/streams/offsets", headers, json.dumps({"streams": []}).encode()
            )
            found += _key_problems(answer, server, config)
    except TransportError as error:
        what, _, todo = str(error).rpartition("; ")
        if not what:
            what, todo = todo, f"mend that, or {setting}; until then nothing is shipped, and nothing is lost"
        return [Problem(what, todo, source, setting)]
    return found


def _clock_problems(answer: Answer, server: ServerSettings, source: Source | None) -> Iterator[Problem]:
    try:
        skew_s = (parsedate_to_datetime(answer.headers["date"]) - datetime.now(UTC)).total_seconds()
    except (KeyError, ValueError, TypeError):
        return
    if abs(skew_s) > SKEW_MAX_S:
        early = "behind" if skew_s > 0 else "ahead of"
        yield Problem(
            f"the clock of this machine is {abs(skew_s):.0f} s {early} that of {server.url}",
            "set it, as with chrony or systemd-timesyncd: times of runs would be wrong by as much",
            source,
            f"{server.section}.url",
            WARNING,
        )


def _key_problems(answer: Answer, server: ServerSettings, config: Config) -> Iterator[Problem]:
    failure = parse_failure(answer, datetime.now(UTC).timestamp())
    if failure is None:
        return
    name = "key_file" if server.key_file else "key"
    setting = f"{server.section}.{name}"
    source = config.sources.get((server.section, name))
    where = server.key_file or "the systemd credential key" if name == "key_file" else setting
    if ("key", "the systemd credential") in server.variables:
        where = "the file that LoadCredential= of the unit names"
    todo = _KEY_REMEDIES.get(answer.status, "look at the server's log")
    said = failure.reason if isinstance(failure, Locked | Retry) else f"{answer.status}"
    yield Problem(
        f"{server.url} does not take the key: {said}",
        todo.format(setting=where, url=f"{server.section}.url"),
        source,
        setting,
    )
