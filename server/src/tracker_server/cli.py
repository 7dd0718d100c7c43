"""The command `tracker-server`: run it, make keys and sign-in links, check its settings."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from . import __version__, check_command
from .app import ListenError, Server, listen, run_until_signal
from .auth import FIRST_ENTITY, FIRST_PRINCIPAL, AccountError, MissingError, parse_scopes
from .config import DATA_TEXT, ConfigError, Settings, load_settings
from .data_directory import DataDirectory, DataDirectoryError
from .heap import bound_heap
from .logs import configure_logs
from .store.accounts import AccountStore
from .store.errors import StoreError
from .store.store import open_store
from .systemd import Systemd, journal_reads

EXIT_UNUSABLE = 2


def main() -> None:
    """Run the command; errors that a person can mend are one line and exit code 2."""
    options = make_parser().parse_args()
    try:
        options.command(options)
    except (ConfigError, DataDirectoryError, ListenError, AccountError, StoreError) as error:
        print(f"tracker-server: {error}", file=sys.stderr)
        sys.exit(EXIT_UNUSABLE)
    except BrokenPipeError:
        sys.exit(1)


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="tracker-server",
        description="Stores what agents send, exactly once, and shows it live.",
        epilog="exit status: 0 done; 1 whoever read the output has gone; 2 it could not be done",
    )
    parser.add_argument("--version", action="version", version=f"tracker-server {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    run = _add(commands, "run", "run the server until SIGTERM")
    _add_settings(run)
    run.add_argument("--host", help="address to listen on (127.0.0.1: this machine only)")
    run.add_argument("--port", type=int, help="port to listen on (8600)")
    run.add_argument("--public-url", help="where people open it, such as https://tracker.example.org")
    run.set_defaults(command=_run)

    check = _add(commands, "check-config", "check the settings and print them")
    check.description, check.epilog = check_command.DESCRIPTION, check_command.EPILOG
    _add_settings(check)
    check_command.add_arguments(check)
    check.set_defaults(command=_check_config)

    link = _add(commands, "signin-link", "print a one-time sign-in link, valid for 15 minutes")
    _add_settings(link)
    link.add_argument("--url", help="address to put into the link (default: that of the running server)")
    _add_principal(link)
    link.add_argument("--scopes", default="admin", help="comma-separated (admin)")
    link.set_defaults(command=_signin_link)

    key = _add(commands, "key", "make, list and revoke API keys").add_subparsers(
        required=True, metavar="ACTION"
    )
    create = _add(key, "create", "make a key and print it, this once")
    _add_settings(create)
    create.add_argument("--name", required=True, help="what the key is for")
    create.add_argument("--scopes", required=True, help="comma-separated: ingest, read, admin")
    _add_principal(create)
    create.add_argument(
        "--service", metavar="NAME", help="a service account that holds the key, made where there is none yet"
    )
    create.add_argument("--expires-days", type=int, help="days until it ends (never)")
    create.set_defaults(command=_create_key)
    listing = _add(key, "list", "list keys, without their secrets")
    _add_settings(listing)
    listing.set_defaults(command=_list_keys)
    revoke = _add(key, "revoke", "revoke a key; it stops working at once")
    _add_settings(revoke)
    revoke.add_argument("id", help="the 8 characters between the underscores of the key")
    revoke.set_defaults(command=_revoke_key)
    return parser


def _add(commands: Any, name: str, summary: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=summary, description=f"{summary}.".capitalize()
    )
    return parser


def _add_settings(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", metavar="DIR", help=DATA_TEXT)
    parser.add_argument(
        "--config", metavar="FILE", type=Path, help="file of settings (or $TRACKER_SERVER_CONFIG)"
    )


def _add_principal(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--entity", default=FIRST_ENTITY, help=f"({FIRST_ENTITY})")
    parser.add_argument("--principal", default=FIRST_PRINCIPAL, help=f"whose it is ({FIRST_PRINCIPAL})")


def _settings(options: argparse.Namespace) -> Settings:
    file, flags = _given(options)
    return load_settings(file, os.environ, flags)


def _given(options: argparse.Namespace) -> tuple[Path | None, dict[tuple[str, str], Any]]:
    """Return the config file, and the settings that flags name."""
    flags: dict[tuple[str, str], Any] = {}
    for section, name in (("", "data"), ("http", "host"), ("http", "port"), ("http", "public_url")):
        value = getattr(options, name, None)
        if value is not None:
            flags[section, name] = value
    file = options.config or os.environ.get("TRACKER_SERVER_CONFIG")
    return Path(file) if file else None, flags


def _run(options: argparse.Namespace) -> None:
    settings = _settings(options)
    close_log = configure_logs(settings.log)
    bound_heap()
    data = DataDirectory(settings.data)
    data.ensure_exists()
    data.lock()
    try:
        data.write_back()
        listener = listen(settings.http.host, settings.http.port)
        server = Server(settings, data, Systemd(os.environ))
        try:
            asyncio.run(run_until_signal(server, listener, lambda url: _greet(server, data, url)))
        finally:
            server.close()
    finally:
        data.unlock()
        close_log()


def _greet(server: Server, data: DataDirectory, url: str) -> None:
    """Say where the server is, and at first start how to get in. On stderr, for a person."""
    lines = [f"Tracker {__version__} is at {url} (data in {data.path})"]
    if not server.settings.loopback_only:
        lines += [
            f"Warning: it listens on {server.settings.http.host}, where other machines reach it without TLS:",
            "  keys and data cross the network in the clear. Put a TLS proxy before it (docs/server.md).",
        ]
    if server.first_key is not None and journal_reads(2, os.environ):
        # More people read the journal than may administer the server.
        lines += [
            f"The admin key is in {data.admin_key}, for root and this user to read. Sign in by the link of:",
            f"  tracker-server signin-link --data {data.path}",
        ]
    elif server.first_key is not None:
        admin = server.accounts.principal(FIRST_ENTITY, FIRST_PRINCIPAL)
        token = server.accounts.create_signin(admin, ("admin",), time.time_ns())
        lines += [
            f"Admin key, shown this once and kept in {data.admin_key}:",
            f"  {server.first_key.text}",
            "Sign in with this link (works once, for 15 minutes):",
            f"  {url}/signin#{token.text}",
        ]
    print("\n".join(lines), file=sys.stderr, flush=True)


def _check_config(options: argparse.Namespace) -> None:
    file, flags = _given(options)
    sys.exit(check_command.run(options, file, os.environ, flags, _why_not_listening))


def _why_not_listening(host: str, port: int) -> str | None:
    try:
        listen(host, port).close()
    except ListenError as error:
        return str(error)
    return None


def _open_accounts(options: argparse.Namespace) -> tuple[AccountStore, DataDirectory, Settings]:
    settings = _settings(options)
    data = DataDirectory(settings.data)
    data.check_in_use()
    return AccountStore(open_store(data.database_url, data.blobs)), data, settings


def _signin_link(options: argparse.Namespace) -> None:
    accounts, data, settings = _open_accounts(options)
    scopes = parse_scopes(options.scopes.split(","))
    principal = accounts.principal(options.entity, options.principal)
    token = accounts.create_signin(principal, scopes, time.time_ns())
    url = (options.url or settings.http.public_url or data.try_url() or settings.public_url).rstrip("/")
    print(f"{url}/signin#{token.text}")


def _create_key(options: argparse.Namespace) -> None:
    accounts, _, _ = _open_accounts(options)
    scopes = parse_scopes(options.scopes.split(","))
    now = time.time_ns()
    if options.service is not None:
        try:
            principal = accounts.principal(options.entity, options.service)
        except MissingError:
            principal = accounts.create_principal(options.entity, options.service, "service", now)
        if principal.kind != "service":
            raise AccountError(f"{options.service!r} is a user; give its keys with --principal")
    else:
        principal = accounts.principal(options.entity, options.principal)
    days = options.expires_days
    if days is not None and not 1 <= days <= 3660:
        raise AccountError("--expires-days must be between 1 and 3660")
    expires = None if days is None else now + days * 24 * 3600 * 1_000_000_000
    print(accounts.create_key(principal.id, options.name, scopes, now, expires).text)


def _list_keys(options: argparse.Namespace) -> None:
    accounts, _, _ = _open_accounts(options)
    for key in accounts.list_keys():
        over = key.expires is not None and key.expires <= time.time_ns()
        state = "revoked" if key.revoked else "over" if over else "valid"
        used = "never used" if key.used is None else f"used {_date(key.used)}"
        ends = "" if key.expires is None else f"  ends {_date(key.expires)}"
        who = f"{key.entity}/{key.principal}"
        print(f"{key.id}  {state:7}  {who}  {','.join(key.scopes)}  {used}{ends}  {key.name}")


def _revoke_key(options: argparse.Namespace) -> None:
    accounts, _, _ = _open_accounts(options)
    key = accounts.revoke_key(options.id, None, time.time_ns())
    print(f"revoked {key.id} ({key.name})")


def _date(time_ns: int) -> str:
    return datetime.fromtimestamp(time_ns / 1e9, UTC).strftime("%Y-%m-%d %H:%M")


if __name__ == "__main__":
    main()
