"""login(): keeps an API key for this machine's agent, as `tracker login` does. Nothing is sent anywhere."""

import os
import sys
from typing import Any, Optional

from . import _session
from ._settings import Settings
from ._spool import candidate_roots


def login(
    anonymous: Any = None,  # noqa: ARG001 - known from scripts, without effect
    key: Optional[str] = None,
    relogin: Optional[bool] = None,
    host: Optional[str] = None,
    force: Optional[bool] = None,
    timeout: Optional[int] = None,  # noqa: ARG001
    verify: bool = False,  # noqa: ARG001 - whether a server takes the key is for the agent to find out
    referrer: Optional[str] = None,  # noqa: ARG001
    **unknown: Any,  # noqa: ARG001
) -> bool:
    """Keep a key for all runs that name no account; return whether the runs of this user have one.

    Without a key: True. Runs are shipped with the key that was kept before, or with the agent's own.
    """
    terminal = _session.terminal()
    try:
        given = key
        if given is None and (relogin or force):
            given = _ask()
        if not given:
            return True
        settings = Settings({"api_key": given, "base_url": host}, {})
        for problem in settings.problems:
            terminal.warn("login", problem)
        if not settings.api_key:
            return False
        if not settings.api_key.startswith("tk_"):
            terminal.warn(
                "login", "this is no key of a Tracker server (those start with tk_): it is not kept"
            )
            return False
        return _keep(settings)
    except Exception as error:  # noqa: BLE001 - the guard
        terminal.warn("login", "login() failed: %s: %s" % (type(error).__name__, error))
        return False


def _keep(settings: Settings) -> bool:
    from ._credentials import store_key

    assert settings.api_key is not None
    for root, _ in candidate_roots(None, os.environ.get("TRACKER_DIR"), os.environ):
        try:
            store_key(root, settings.server or "", "", settings.api_key)
            return True
        except OSError as error:  # noqa: PERF203 - the next one may do
            _session.terminal().warn("login", "cannot use %s: %s" % (root, error.strerror or error))
    return False


def _ask() -> Optional[str]:
    if sys.stdin is None or not sys.stdin.isatty():
        return None
    import getpass

    return getpass.getpass("API key: ")
