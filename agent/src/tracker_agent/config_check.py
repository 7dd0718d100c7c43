"""What settings mean together: those that do not go with each other, and those that should be looked at.

Each setting by itself was checked before. Nothing here touches a file: that is places_check.py's part.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from urllib.parse import urlsplit

from tracker.protocol.kinds import SEGMENT_BYTES

from .config_file import Problems, Source, refusal
from .setting_values import listens_to_others, parse_uid_range, show_size
from .settings import Config, ServerSettings, Values

#: What the server makes (docs/server.md): an id of 8, a secret of 43.
_KEY = re.compile(r"tk_[a-z0-9]{8}_[A-Za-z0-9_-]{43}")
_OTHER_SECRETS = {"ts_": "a browser's session", "tl_": "a sign-in link"}


def check_together(config: Config, problems: Problems) -> None:
    """Note what cannot be used together."""
    for check in (_check_sampler, _check_metrics, _check_places, _check_uid_map):
        with problems.noted():
            check(config)


def look_at(config: Config, values: Values, problems: Problems) -> None:
    """Note what can be used, and hardly is what somebody wants."""
    for server in config.servers.values():
        _look_at_server(server, config.sources, problems)
    _look_at_limits(config, problems)
    _look_at_paths(values, problems)


def _check_sampler(config: Config) -> None:
    sampler = config.sampler
    if sampler.window_s < sampler.interval_s:
        name = "window_s" if ("sampler", "window_s") in config.sources else "interval_s"
        raise refusal(
            f"sampler.window_s ({sampler.window_s:g}) is below sampler.interval_s ({sampler.interval_s:g})",
            "a window must not be shorter than the time between two samples",
            config.sources.get(("sampler", name)),
            f"sampler.{name}",
        )


def _check_metrics(config: Config) -> None:
    metrics = config.metrics
    if metrics.listen and not metrics.allow_remote and listens_to_others(metrics.listen):
        raise refusal(
            f"metrics.listen = {metrics.listen!r} can be reached from other machines, without a password",
            "listen on 127.0.0.1, or set metrics.allow_remote = true",
            config.sources.get(("metrics", "listen")),
            "metrics.listen",
        )


def _check_places(config: Config) -> None:
    """A spool is its users', the state directory the agent's: neither may lie within the other."""
    state = config.state_dir
    source = config.sources.get(("agent", "state_dir")) or config.sources.get(("agent", "spools"))
    for spool in config.spools:
        if state == spool:
            what = f"agent.state_dir and a spool are both {spool}"
        elif spool in state.parents:
            what = f"agent.state_dir {state} lies in the spool {spool}, where users write"
        elif state in spool.parents:
            what = f"the spool {spool} lies in agent.state_dir {state}, where the agent removes what is old"
        else:
            continue
        raise refusal(what, "give the agent a directory of its own", source, "agent.state_dir")
    for spool in config.spools:
        for other in config.spools:
            if other in spool.parents:
                raise refusal(
                    f"the spool {spool} lies in the spool {other}",
                    "keep the outer one, or put them side by side",
                    config.sources.get(("agent", "spools")),
                    "agent.spools",
                )


def _check_uid_map(config: Config) -> None:
    ranges = sorted((parse_uid_range(each), each) for each in config.agent.uid_map)
    for (one, text), (other, text_of_other) in pairwise(ranges):
        if other.first <= one.last:
            raise refusal(
                f"agent.uid_map: {text!r} and {text_of_other!r} overlap at uid {other.first}",
                "each uid of a container's user belongs to one user of this host",
                config.sources.get(("agent", "uid_map")),
                "agent.uid_map",
            )


def _look_at_server(
    server: ServerSettings, sources: Mapping[tuple[str, str], Source], problems: Problems
) -> None:
    parts = urlsplit(server.url)
    url = (sources.get((server.section, "url")), f"{server.section}.url")
    if parts.scheme == "http" and not _is_this_machine(parts.hostname or ""):
        problems.warn(
            f"{server.section}.url begins with http://: the key and all data cross the network in the clear",
            "let the server speak TLS (docs/server.md) and begin the address with https://",
            *url,
        )
    if parts.path.strip("/"):
        problems.warn(
            f"{server.section}.url has the path {parts.path}, below which the server's API is looked for",
            "leave it out unless a gateway wants it",
            *url,
        )
    if parts.scheme == "http":
        for name in ("ca_file", "client_cert"):
            if (server.section, name) in sources and not server.proxy.startswith("https:"):
                problems.warn(
                    f"{server.section}.{name} is of no use: there is no TLS on the way to {server.url}",
                    f"begin {server.section}.url with https://, or leave it out",
                    sources[server.section, name],
                    f"{server.section}.{name}",
                )
    if server.key and not _KEY.fullmatch(server.key):
        what = next((of for begin, of in _OTHER_SECRETS.items() if server.key.startswith(begin)), "")
        name = "key_file" if server.key_file else "key"
        problems.warn(
            f"{server.section}.{name} does not hold an API key (tk_, 8 characters, _, 43 characters)"
            + (f" but the secret of {what}" if what else ""),
            "copy the whole key that `tracker-server key create` printed",
            sources.get((server.section, name)),
            f"{server.section}.{name}",
        )


def _is_this_machine(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _look_at_limits(config: Config, problems: Problems) -> None:
    limits = config.limits
    for name in ("spool_bytes_per_user", "spool_bytes"):
        value = getattr(limits, name)
        if 0 < value < 2 * SEGMENT_BYTES:
            problems.warn(
                f"limits.{name} is {show_size(value)}, and one file grows to {show_size(SEGMENT_BYTES)}: "
                "runs would lose data that the server does not have yet",
                f"allow {show_size(2 * SEGMENT_BYTES)} at least, or 0 for no limit",
                config.sources.get(("limits", name)),
                f"limits.{name}",
            )
    if 0 < limits.spool_bytes < limits.spool_bytes_per_user:
        problems.warn(
            f"limits.spool_bytes ({show_size(limits.spool_bytes)}) is less than limits.spool_bytes_per_user "
            f"({show_size(limits.spool_bytes_per_user)}): one user may take it all",
            "let the limit of all users together be the larger one",
            config.sources.get(("limits", "spool_bytes")),
            "limits.spool_bytes",
        )


def _look_at_paths(values: Values, problems: Problems) -> None:
    """Note relative paths: an agent that somebody else starts has another working directory."""
    for (section, name), given in values.items():
        if given.source.kind == "flag" or name not in _PATHS:
            continue
        for path in given.value if isinstance(given.value, list) else [given.value]:
            if isinstance(path, str) and path and not os.path.isabs(path) and not path.startswith("~"):
                problems.warn(
                    f"{section}.{name}: {path!r} is relative to the directory that the agent is started in, "
                    f"here {Path.cwd()}",
                    "write the whole path, from / on",
                    given.source,
                    f"{section}.{name}",
                )


_PATHS = ("state_dir", "spools", "key_file", "ca_file", "client_cert", "client_key", "proxy_password_file")
