"""Who is asking, and may they: principals, scopes and the secrets that stand for them.

Secrets (API keys, sessions, sign-in links) share one shape, `<prefix>_<id>_<secret>`: the id is
looked up, the secret's SHA-256 is compared in constant time, and the secret itself is stored
nowhere. They hold 256 random bits, so a plain hash is enough.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from .principal import ADMIN, INGEST, READ, Principal

#: In the order in which they are stored and shown.
SCOPES = (INGEST, READ, ADMIN)

#: The entity made at first start. Its admins operate the server: they may create other entities.
FIRST_ENTITY = "default"
FIRST_PRINCIPAL = "admin"

KEY_PREFIX = "tk"
SESSION_PREFIX = "ts"
SIGNIN_PREFIX = "tl"

SESSION_S = 30 * 24 * 3600
SIGNIN_S = 15 * 60

_ID_ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789"
_ID_CHARACTERS = 8
_SECRET_CHARACTERS = 43


class AccountError(Exception):
    """An account cannot be made or changed as asked; the message says why."""


class ExistsError(AccountError):
    """It is there already."""


class MissingError(AccountError):
    """There is no such account, key or entity."""


class Secret(NamedTuple):
    """A fresh secret: what its owner gets, and what is stored."""

    id: str
    text: str
    digest: bytes


@dataclass(frozen=True)
class Identity:
    """A principal, and the credential that stands for it in one request."""

    principal: Principal
    #: Id of the API key, or None for a session.
    key: str | None
    #: When the credential ends, ns since 1970, or None.
    expires: int | None = None


def is_operator(principal: Principal) -> bool:
    """Return whether this is an admin of the whole server, not of one entity only."""
    return ADMIN in principal.scopes and principal.entity == FIRST_ENTITY


def new_secret(prefix: str) -> Secret:
    """Return a fresh secret of 256 random bits."""
    identifier = "".join(secrets.choice(_ID_ALPHABET) for _ in range(_ID_CHARACTERS))
    text = f"{prefix}_{identifier}_{secrets.token_urlsafe(32)}"
    return Secret(identifier, text, digest_secret(text))


def digest_secret(text: str) -> bytes:
    """Return what is stored of a secret."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def parse_secret(prefix: str, text: str) -> str | None:
    """Return the id in a secret, or None where the text is not one."""
    head = f"{prefix}_"
    identifier = text[len(head) : len(head) + _ID_CHARACTERS]
    if (
        not text.startswith(head)
        or len(text) != len(head) + _ID_CHARACTERS + 1 + _SECRET_CHARACTERS
        or text[len(head) + _ID_CHARACTERS] != "_"
        or set(identifier) - set(_ID_ALPHABET)
    ):
        return None
    return identifier


def secret_matches(text: str, digest: bytes) -> bool:
    """Return whether a secret is the one whose digest was stored, in constant time."""
    return hmac.compare_digest(digest_secret(text), digest)


def parse_scopes(scopes: list[str]) -> tuple[str, ...]:
    """Return scopes in their one order. Raise AccountError for unknown ones or none."""
    unknown = sorted(set(scopes) - set(SCOPES))
    if unknown or not scopes:
        what = f"unknown scope {unknown[0]!r}" if unknown else "no scope given"
        raise AccountError(f"{what}; scopes are {', '.join(SCOPES)}")
    return tuple(scope for scope in SCOPES if scope in scopes)


class FailureLimiter:
    """Counts failed sign-ins per client address within a minute; forgets the oldest addresses."""

    def __init__(self, failures_max: int, clock: Callable[[], float], addresses_max: int = 10_000) -> None:
        self._failures_max = failures_max
        self._clock = clock
        self._addresses_max = addresses_max
        self._failures: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def wait_s(self, address: str) -> float:
        """Return how long an address must wait before it may try again; 0 when it may now."""
        count, since = self._failures.get(address, (0, 0.0))
        left = since + 60.0 - self._clock()
        return left if count >= self._failures_max and left > 0 else 0.0

    def count_failure(self, address: str) -> None:
        """Note one failure."""
        now = self._clock()
        count, since = self._failures.pop(address, (0, now))
        self._failures[address] = (1, now) if now - since >= 60.0 else (count + 1, since)
        while len(self._failures) > self._addresses_max:
            self._failures.popitem(last=False)
