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
from .setting_values import canonical_url, url_problem
from .settings import NO_PROXY, ConfigError, ServerSettings, Values, check_value
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
    section: str, values: Values, environment: Mapping[str, str], warnings: list[str]
) -> ServerSettings:
    """Return the settings of one server, complete and checked; section is "server" or "servers.NAME"."""
    given = {name: value for (owner, name), value in values.items() if owner == section}
    checked: dict[str, Any] = {name: check_value(section, name, value) for name, value in given.items()}
    home = environment.get("HOME") or os.path.expanduser("~")
    for name in ("ca_file", "client_cert", "client_key", "proxy_password_file"):
        if checked.get(name):
            checked[name] = absolute(checked[name], home)
    server = ServerSettings(section=section, **checked)
    server = _check_addresses(server, values)
    server = _with_key(server, values, environment, home, warnings)
    server = _with_authorities(server, environment)
    server = _with_proxy(server, values, environment, warnings)
    _check_certificates(server, values, warnings)
    return server


def check_servers(server: ServerSettings, further: Mapping[str, ServerSettings], values: Values) -> None:
    """Raise ConfigError when there is no server, or one of them twice."""
    if not server.url:
        raise ConfigError(
            'no server: set url = "http://HOST:8600" in the section [server] of the config file, '
            "or TRACKER_AGENT_SERVER_URL, or --server"
        )
    known = {canonical_url(server.url): "[server]"}
    for each in further.values():
        other = known.setdefault(canonical_url(each.url), f"[{each.section}]")
        if other != f"[{each.section}]":
            source = values[each.section, "url"].source
            raise ConfigError(f"{source}: {each.section}.url is that of {other}, too; keep one")


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


def _check_addresses(server: ServerSettings, values: Values) -> ServerSettings:
    for name in ("url", "public_url", "proxy"):
        text = getattr(server, name)
        if not text or (name == "proxy" and text == NO_PROXY):
            continue
        problem = url_problem(text)
        if problem:
            source = values[server.section, name].source
            hint = f" ({_HINTS[name]})" if "password" in problem else ""
            example = "http://proxy.example.org:3128" if name == "proxy" else "https://tracker.example.org"
            # An address that holds a password is not repeated.
            shown = "" if "password" in problem else f"it is {text!r}, "
            raise ConfigError(
                f"{source}: {server.section}.{name} {problem}{hint}; {shown}it should look like {example}"
            )
        trimmed: dict[str, Any] = {name: text.rstrip("/")}
        server = dataclasses.replace(server, **trimmed)
    return server


# The key.


def _with_key(
    server: ServerSettings, values: Values, environment: Mapping[str, str], home: str, warnings: list[str]
) -> ServerSettings:
    """Read the key from its file. A key given at a higher level replaces a key file of a lower one."""
    section = server.section
    key, file = values.get((section, "key")), values.get((section, "key_file"))
    if key and file:
        ranks = [_rank(key.source), _rank(file.source)]
        if ranks[0] == ranks[1]:
            raise ConfigError(f"{file.source}: both {section}.key and {section}.key_file are set; keep one")
        weaker: dict[str, Any] = {"key_file" if ranks[0] > ranks[1] else "key": ""}
        server = dataclasses.replace(server, **weaker)
    source = values[section, "key_file"].source if server.key_file else ""
    path = server.key_file
    if not path and not server.key and environment.get("CREDENTIALS_DIRECTORY"):
        _, _, further = section.partition(".")
        name = f"{CREDENTIAL_NAME}-{further}" if further else CREDENTIAL_NAME
        path = os.path.join(environment["CREDENTIALS_DIRECTORY"], name)
        source = "the systemd credential"
        if not os.path.exists(path):
            path = ""
    if path:
        path = absolute(path, home)
        text = _read_key(path, source, f"{section}.key_file", warnings)
        server = dataclasses.replace(server, key=text, key_file=path)
    elif server.key:
        try:
            server = dataclasses.replace(server, key=parse_key(server.key))
        except ValueError as error:
            raise ConfigError(f"{values[section, 'key'].source}: {error}") from error
    if not server.key and section == "server":
        warnings.append(
            "no key: only runs whose owner stored a key of his own will be shipped; "
            "put an API key with the scope ingest into server.key_file"
        )
    return server


def _rank(source: str) -> int:
    return 2 if source == "the command line" else 1 if source.startswith("the variable ") else 0


def _read_key(path: str, source: str, setting: str, warnings: list[str]) -> str:
    try:
        content, status = read_secret(path)
        key = parse_key(content.decode("utf-8", "replace"))
    except OSError as error:
        raise ConfigError(
            f"{source}: cannot read {setting} {path}: {error.strerror or error}; "
            "the file must exist and be readable for the agent's user"
        ) from error
    except ValueError as error:
        raise ConfigError(f"{source}: {setting} {path}: {error}") from error
    _warn_of_readers("the key", path, status, warnings)
    return key


def _warn_of_readers(what: str, path: str, status: os.stat_result, warnings: list[str]) -> None:
    if status.st_mode & stat.S_IROTH and stat.S_ISREG(status.st_mode):
        warnings.append(f"every user can read {what} in {path}; run: chmod o= {path}")


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
    server: ServerSettings, values: Values, environment: Mapping[str, str], warnings: list[str]
) -> ServerSettings:
    """Take the proxy from the environment where no setting names one; check what belongs to it."""
    if server.proxy == NO_PROXY:
        server = dataclasses.replace(server, proxy="")
    elif not server.proxy:
        server = _with_environments_proxy(server, environment)
    for name, needs in (("proxy_user", "proxy"), ("proxy_password_file", "proxy_user")):
        if getattr(server, name) and not getattr(server, needs):
            source = values[server.section, name].source
            raise ConfigError(
                f"{source}: {server.section}.{name} is set, but {server.section}.{needs} is not; set both"
            )
    if server.proxy_password_file:
        try:
            content, status = read_secret(server.proxy_password_file)
            password = content.decode().strip("\r\n")
        except (OSError, ValueError) as error:
            source = values[server.section, "proxy_password_file"].source
            said = error.strerror if isinstance(error, OSError) and error.strerror else error
            raise ConfigError(
                f"{source}: cannot use {server.section}.proxy_password_file "
                f"{server.proxy_password_file}: {said}"
            ) from error
        server = dataclasses.replace(server, proxy_password=password)
        _warn_of_readers("the password", server.proxy_password_file, status, warnings)
    if server.client_key and not server.client_cert:
        source = values[server.section, "client_key"].source
        raise ConfigError(
            f"{source}: {server.section}.client_key is set, but {server.section}.client_cert is not; set both"
        )
    return server


def _check_certificates(server: ServerSettings, values: Values, warnings: list[str]) -> None:
    """Make sure that the files of certificates can be used; warn of what ends soon."""
    named = server.client_cert or (server.ca_file and "ca_file" not in dict(server.variables))
    if not named and not Tls(server).needed:
        return
    try:
        server_context(server)
    except CertificateFileError as error:
        given = values.get((server.section, error.setting))
        raise ConfigError(f"{given.source}: {error}" if given else str(error)) from error
    if server.client_cert:
        key = server.client_key or server.client_cert
        _warn_of_readers("the private key", key, os.stat(key), warnings)
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
            warnings.append(f"{name}: the certificate in {path} {verb} on {ends[0]:%Y-%m-%d}: renew it")


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
        raise ConfigError(
            f"the variable {variable}: the proxy's address {problem}; set {server.section}.proxy to "
            f'an http:// or https:// proxy, or to "{NO_PROXY}"'
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
