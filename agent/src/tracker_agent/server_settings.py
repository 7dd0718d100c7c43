"""Puts the settings of one server together: its address, its key, its certificates, the proxy on the way.

What the settings leave open comes from the variables that other programs go by, too: SSL_CERT_FILE,
REQUESTS_CA_BUNDLE, HTTPS_PROXY, HTTP_PROXY, ALL_PROXY, NO_PROXY.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import os
import stat
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

from .certificates import parse_certificates
from .config_file import ConfigError, Problems, Source, of_variable, refusal
from .setting_values import canonical_url, url_problem
from .settings import NO_PROXY, ServerSettings, Values, check_value
from .tls import CertificateFileError, Tls, server_context
from .watched_file import read_secret

#: The name under which the systemd unit hands over the key (LoadCredential=); of a further server: key-NAME.
CREDENTIAL_NAME = "key"
#: A certificate that ends within this time is warned of.
ENDS_SOON = timedelta(days=14)
_CA_VARIABLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")
_HINTS = {
    "url": "put the key into server.key_file",
    "public_url": "it is shown to people",
    "proxy": "use proxy_user and proxy_password_file",
}


def load_server(
    section: str,
    values: Values,
    environment: Mapping[str, str],
    problems: Problems,
    credentials: Mapping[str, str] | None = None,
) -> ServerSettings:
    """Return the settings of one server, complete and checked; section is "server" or "servers.NAME".

    What cannot be used is noted and left out. credentials: those of the unit, for who is not started by it.
    """
    checked: dict[str, Any] = {}
    for (owner, name), value in values.items():
        if owner == section:
            with problems.noted():
                checked[name] = check_value(section, name, value)
    home = environment.get("HOME") or os.path.expanduser("~")
    for name in ("ca_file", "client_cert", "client_key", "proxy_password_file"):
        if checked.get(name):
            checked[name] = absolute(checked[name], home)
    for name in ("url", "public_url", "proxy"):
        if checked.get(name):
            try:
                checked[name] = _checked_address(section, name, checked[name], values[section, name].source)
            except ConfigError as error:
                problems.found += error.problems
                # A proxy that cannot be used is no reason to take that of the environment.
                checked[name] = NO_PROXY if name == "proxy" else ""
    server = ServerSettings(section=section, **checked)
    server = _with_key(server, values, environment, home, problems, credentials or {})
    server = _with_authorities(server, environment)
    server = _with_proxy(server, values, environment, problems)
    with problems.noted():
        _check_certificates(server, values, problems)
    return server


def check_servers(
    server: ServerSettings, further: Mapping[str, ServerSettings], values: Values, problems: Problems
) -> None:
    """Note that there is no server, or one of them twice."""
    known_why = any(each.setting.partition(".")[0] == "server" for each in problems.errors)
    if not server.url and not known_why:
        problems.found += refusal(
            "no server",
            'set url = "http://HOST:8600" in the section [server] of the config file, '
            "or TRACKER_AGENT_SERVER_URL, or --server",
            setting="server.url",
        ).problems
    known = {canonical_url(server.url): "[server]"} if server.url else {}
    for each in further.values():
        if not each.url:
            continue
        other = known.setdefault(canonical_url(each.url), f"[{each.section}]")
        if other != f"[{each.section}]":
            source = values[each.section, "url"].source
            setting = f"{each.section}.url"
            problems.found += refusal(
                f"{setting} is that of {other}, too", "keep one", source, setting
            ).problems


def absolute(path: str, home: str) -> str:
    """Return a path of a setting, with ~ for the home directory, as an absolute one."""
    if path == "~" or path.startswith("~/"):
        path = home + path[1:]
    return os.path.abspath(path)


def parse_key(text: str) -> str:
    """Return the API key in a text. Raise ValueError when there is something else."""
    key = text.strip()
    if not all("!" <= each <= "~" for each in key):
        raise ValueError("the key holds spaces, line ends or other characters no key has")
    return key


def _checked_address(section: str, name: str, text: str, source: Source) -> str:
    """Return an address without a slash at its end. Raise ConfigError."""
    if name == "proxy" and text == NO_PROXY:
        return text
    problem = url_problem(text)
    if problem:
        hint = f" ({_HINTS[name]})" if "password" in problem else ""
        example = "http://proxy.example.org:3128" if name == "proxy" else "https://tracker.example.org"
        # An address that holds a password is not repeated.
        shown = "" if "password" in problem else f"it is {text!r}, "
        setting = f"{section}.{name}"
        raise refusal(f"{setting} {problem}{hint}", f"{shown}it should look like {example}", source, setting)
    return text.rstrip("/")


# The key.


def _with_key(
    server: ServerSettings,
    values: Values,
    environment: Mapping[str, str],
    home: str,
    problems: Problems,
    credentials: Mapping[str, str],
) -> ServerSettings:
    """Read the key from its file. A key given at a higher level replaces a key file of a lower one."""
    section = server.section
    key, file = values.get((section, "key")), values.get((section, "key_file"))
    if key and file:
        ranks = [_RANKS[key.source.kind], _RANKS[file.source.kind]]
        if ranks[0] == ranks[1]:
            what = f"both {section}.key and {section}.key_file are set"
            problems.found += refusal(what, "keep one", file.source, f"{section}.key_file").problems
            return server
        weaker: dict[str, Any] = {"key_file" if ranks[0] > ranks[1] else "key": ""}
        server = dataclasses.replace(server, **weaker)
    source = file.source if file else Source("")
    path = server.key_file
    given = file is not None or (key is not None and bool(key.value))
    if not path and not server.key and not given:
        name = f"{CREDENTIAL_NAME}-{section.partition('.')[2]}" if section != "server" else CREDENTIAL_NAME
        source = Source("the systemd credential", kind="credential")
        if name in credentials:
            return dataclasses.replace(server, key=credentials[name], variables=(("key", source.name),))
        path = os.path.join(environment.get("CREDENTIALS_DIRECTORY") or "/nonexistent", name)
        path = path if os.path.exists(path) else ""
    with problems.noted():
        if path:
            path = absolute(path, home)
            text = _read_key(path, source, f"{section}.key_file", problems)
            server = dataclasses.replace(server, key=text, key_file=path)
        elif server.key and key is not None:
            server = _with_parsed_key(server, key.source, problems)
        if not server.key and section == "server" and (path or not given):
            problems.warn(
                f"{path} is empty: no key"
                if path
                else "no key: only runs whose owner stored a key of his own will be shipped",
                "put an API key with the scope ingest into server.key_file",
                source if path else None,
                "server.key_file",
            )
    return server


_RANKS = {"flag": 2, "variable": 1, "file": 0}


def _with_parsed_key(server: ServerSettings, source: Source, problems: Problems) -> ServerSettings:
    setting = f"{server.section}.key"
    try:
        key = parse_key(server.key)
    except ValueError as error:
        todo = "copy the whole key that `tracker-server key create` printed, and nothing else"
        raise refusal(f"{setting}: {error}", todo, source, setting) from error
    if source.kind == "file":
        _warn_of_readers("the key", source.name, os.stat(source.name), problems, source, setting)
    return dataclasses.replace(server, key=key)


def _read_key(path: str, source: Source, setting: str, problems: Problems) -> str:
    try:
        content, status = read_secret(path)
        key = parse_key(content.decode("utf-8", "replace"))
    except OSError as error:
        raise refusal(
            f"cannot read {setting} {path}: {error.strerror or error}",
            "the file must exist and be readable for the agent's user",
            source,
            setting,
        ) from error
    except ValueError as error:
        todo = "it should hold one line: the key that `tracker-server key create` printed"
        raise refusal(f"{setting} {path}: {error}", todo, source, setting) from error
    _warn_of_readers("the key", path, status, problems, source, setting)
    return key


def _warn_of_readers(
    what: str, path: str, status: os.stat_result, problems: Problems, source: Source | None, setting: str
) -> None:
    for bit, verb in ((stat.S_IROTH, "read"), (stat.S_IWOTH, "replace")):
        if status.st_mode & bit and stat.S_ISREG(status.st_mode):
            problems.warn(f"every user can {verb} {what} in {path}", f"run: chmod o= {path}", source, setting)


# Certificates and the proxy.


def _with_authorities(server: ServerSettings, environment: Mapping[str, str]) -> ServerSettings:
    """Take the trusted authorities from the environment where no setting names them."""
    for variable in _CA_VARIABLES if not server.ca_file else ():
        if environment.get(variable):
            path = os.path.abspath(environment[variable])
            variables = (*server.variables, ("ca_file", variable))
            return dataclasses.replace(server, ca_file=path, variables=variables)
    return server


def _with_proxy(
    server: ServerSettings, values: Values, environment: Mapping[str, str], problems: Problems
) -> ServerSettings:
    """Take the proxy from the environment where no setting names one; check what belongs to it."""
    section = server.section
    refused = any(each.setting == f"{section}.proxy" for each in problems.errors)
    if server.proxy == NO_PROXY:
        server = dataclasses.replace(server, proxy="")
    elif not server.proxy and server.url:
        with problems.noted():
            server = _with_environments_proxy(server, environment)
    for name, needs in (
        ("proxy_user", "proxy"),
        ("proxy_password_file", "proxy_user"),
        ("client_key", "client_cert"),
    ):
        given = values.get((section, name))
        if refused and needs == "proxy":
            continue
        if given and getattr(server, name) and not getattr(server, needs):
            what = f"{section}.{name} is set, but {section}.{needs} is not"
            problems.found += refusal(what, "set both", given.source, f"{section}.{name}").problems
    if server.proxy_password_file and server.proxy_user:
        given = values[section, "proxy_password_file"]
        setting = f"{section}.proxy_password_file"
        try:
            content, status = read_secret(server.proxy_password_file)
            password = content.decode().strip("\r\n")
        except (OSError, ValueError) as error:
            said = error.strerror if isinstance(error, OSError) and error.strerror else error
            problems.found += refusal(
                f"cannot use {setting} {server.proxy_password_file}: {said}",
                "the file must exist, be readable for the agent's user and hold the password in one line",
                given.source,
                setting,
            ).problems
            return server
        server = dataclasses.replace(server, proxy_password=password)
        _warn_of_readers("the password", server.proxy_password_file, status, problems, given.source, setting)
    return server


def _check_certificates(server: ServerSettings, values: Values, problems: Problems) -> None:
    """Make sure that the files of certificates can be used; warn of what ends soon."""
    named = server.client_cert or (server.ca_file and "ca_file" not in dict(server.variables))
    if not named and not Tls(server).needed:
        return
    try:
        server_context(server)
    except CertificateFileError as error:
        given = values.get((server.section, error.setting))
        setting = f"{server.section}.{error.setting}"
        raise refusal(error.what, error.todo, given.source if given else None, setting) from error
    if server.client_cert:
        name = "client_key" if server.client_key else "client_cert"
        key = server.client_key or server.client_cert
        given = values.get((server.section, name))
        source = given.source if given else None
        _warn_of_readers("the private key", key, os.stat(key), problems, source, f"{server.section}.{name}")
    now = datetime.now(UTC)
    for setting in ("ca_file", "client_cert"):
        path = getattr(server, setting)
        if not path or os.path.isdir(path):
            continue
        with open(path, encoding="utf-8", errors="replace") as opened:
            certificates = parse_certificates(opened.read())
        # A client's chain is as good as its first link; of authorities, any may do.
        ends = [each.ends for each in certificates[:1] if setting == "client_cert"]
        ends = ends or [max(each.ends for each in certificates)] if certificates else []
        if ends and ends[0] <= now + ENDS_SOON:
            verb = "ended" if ends[0] <= now else "ends"
            name = server.name_of(setting)
            given = values.get((server.section, setting))
            problems.warn(
                f"{name}: the certificate in {path} {verb} on {ends[0]:%Y-%m-%d}",
                "renew it",
                given.source if given else None,
                f"{server.section}.{setting}",
            )


def _with_environments_proxy(server: ServerSettings, environment: Mapping[str, str]) -> ServerSettings:
    scheme = urlsplit(server.url).scheme
    for variable in (f"{scheme}_proxy", f"{scheme}_proxy".upper(), "all_proxy", "ALL_PROXY"):
        text = environment.get(variable, "").strip()
        if text:
            break
    else:
        return server
    if bypasses_proxy(server.url, environment.get("no_proxy") or environment.get("NO_PROXY") or ""):
        return server
    parts = urlsplit(text if "://" in text else f"http://{text}")
    bare = urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], "", "", ""))
    problem = url_problem(bare)
    if problem:
        raise refusal(
            f"the proxy's address {problem}",
            f'set {server.section}.proxy to an http:// or https:// proxy, or to "{NO_PROXY}"',
            of_variable(variable),
            f"{server.section}.proxy",
        )
    found: dict[str, Any] = {"proxy": bare, "variables": (*server.variables, ("proxy", variable))}
    if parts.username is not None and not server.proxy_user:
        found |= {"proxy_user": unquote(parts.username), "proxy_password": unquote(parts.password or "")}
    return dataclasses.replace(server, **found)


def bypasses_proxy(url: str, no_proxy: str) -> bool:
    """Return whether a server is reached directly: it is this machine, or NO_PROXY lists it.

    NO_PROXY as curl and Go know it: names with everything below them, addresses, networks, each perhaps with
    a port, or "*".
    """
    parts = urlsplit(url)
    host = (parts.hostname or "").rstrip(".")
    port = parts.port or {"http": 80, "https": 443}[parts.scheme]
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        address = None
    if host == "localhost" or (address is not None and address.is_loopback):
        return True
    for entry in no_proxy.lower().split(","):
        entry = entry.strip().removesuffix(f":{port}").strip("[]")
        name = entry.removeprefix("*").strip(".")
        if entry == "*" or (name and (host == name or host.endswith("." + name))):
            return True
        try:
            if address is not None and address in ipaddress.ip_network(entry, strict=False):
                return True
        except ValueError:
            continue
    return False
