"""AccountStore: entities, principals, API keys, browser sessions and one-time sign-in links.

Only digests of secrets are stored (auth.py). Every answer about a credential is read from the
database at each request, so that a key revoked by another process stops working at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from sqlalchemy import Connection, RowMapping, delete, func, select, update
from sqlalchemy.exc import IntegrityError

from tracker_server.auth import (
    FIRST_ENTITY,
    FIRST_PRINCIPAL,
    KEY_PREFIX,
    SCOPES,
    SESSION_PREFIX,
    SESSION_S,
    SIGNIN_PREFIX,
    SIGNIN_S,
    ExistsError,
    Identity,
    MissingError,
    Secret,
    digest_secret,
    new_secret,
    parse_secret,
    secret_matches,
)
from tracker_server.principal import Principal

from .schema import api_keys, entities, principals, sessions, signin_tokens

SECOND_NS = 1_000_000_000


class Database(Protocol):
    """What accounts need of the store."""

    def read(self) -> AbstractContextManager[Connection]: ...

    def write(self) -> AbstractContextManager[Connection]: ...


@dataclass(frozen=True)
class Key:
    """An API key as its administrators see it. Times are ns."""

    id: str
    name: str
    entity: str
    principal: str
    kind: str
    scopes: tuple[str, ...]
    created: int
    expires: int | None
    used: int | None
    revoked: int | None


class AccountStore:
    """Reads and changes accounts. May be called from any thread."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # --- entities and principals ---

    def ensure_first(self, now: int, keep: Callable[[Secret], None]) -> Secret | None:
        """Make the first entity, its admin and an admin key in an empty database; return the key.

        `keep` puts the key where its owner finds it, before it is valid: a crash in between leaves
        an empty database and the next start begins again.
        """
        with self._database.write() as connection:
            if connection.scalar(select(func.count()).select_from(entities)):
                return None
            secret = new_secret(KEY_PREFIX)
            keep(secret)
            principal_id = self._add_principal(connection, FIRST_ENTITY, FIRST_PRINCIPAL, "user", now)
            self._add_key(connection, secret, principal_id, "first admin key", ("admin",), now, None)
            return secret

    def create_principal(self, entity: str, name: str, kind: str, now: int) -> Principal:
        """Make a principal, and its entity where there is none yet. Raise ExistsError."""
        with self._database.write() as connection:
            self._add_principal(connection, entity, name, kind, now)
        return self.principal(entity, name)

    def principal(self, entity: str, name: str) -> Principal:
        """Return a principal, without scopes. Raise MissingError."""
        with self._database.read() as connection:
            row = (
                connection.execute(
                    select(principals, entities.c.name.label("entity"))
                    .join_from(principals, entities)
                    .where(entities.c.name == entity, principals.c.name == name)
                )
                .mappings()
                .first()
            )
        if row is None:
            raise MissingError(f"there is no principal {name!r} in entity {entity!r}")
        return _principal(row, row["id"], frozenset())

    def principals(self, entity: str) -> list[Principal]:
        """Return the principals of an entity, by name."""
        with self._database.read() as connection:
            rows = connection.execute(
                select(principals, entities.c.name.label("entity"))
                .join_from(principals, entities)
                .where(entities.c.name == entity)
                .order_by(principals.c.name)
            ).mappings()
            return [_principal(row, row["id"], frozenset()) for row in rows]

    def _add_principal(self, connection: Connection, entity: str, name: str, kind: str, now: int) -> int:
        entity_id = connection.scalar(select(entities.c.id).where(entities.c.name == entity))
        if entity_id is None:
            entity_id = _inserted(connection.execute(entities.insert().values(name=entity, created=now)))
        try:
            return _inserted(
                connection.execute(
                    principals.insert().values(entity_id=entity_id, name=name, kind=kind, created=now)
                )
            )
        except IntegrityError as error:
            raise ExistsError(f"there is already a principal {name!r} in entity {entity!r}") from error

    # --- API keys ---

    def create_key(
        self, principal_id: int, name: str, scopes: tuple[str, ...], now: int, expires: int | None
    ) -> Secret:
        """Make an API key. Its text is in the answer and nowhere else."""
        secret = new_secret(KEY_PREFIX)
        with self._database.write() as connection:
            self._add_key(connection, secret, principal_id, name, scopes, now, expires)
        return secret

    def _add_key(
        self,
        connection: Connection,
        secret: Secret,
        principal_id: int,
        name: str,
        scopes: tuple[str, ...],
        now: int,
        expires: int | None,
    ) -> None:
        connection.execute(
            api_keys.insert().values(
                id=secret.id,
                principal_id=principal_id,
                name=name,
                digest=secret.digest,
                scopes=",".join(scopes),
                created=now,
                expires=expires,
            )
        )

    def list_keys(self, entity: str | None = None) -> list[Key]:
        """Return the keys of an entity, or of all, newest first."""
        query = (
            select(
                api_keys,
                principals.c.name.label("principal"),
                principals.c.kind,
                entities.c.name.label("entity"),
            )
            .join_from(api_keys, principals)
            .join(entities)
            .order_by(api_keys.c.created.desc(), api_keys.c.id)
        )
        if entity is not None:
            query = query.where(entities.c.name == entity)
        with self._database.read() as connection:
            return [_key(row) for row in connection.execute(query).mappings()]

    def revoke_key(self, key: str, entity: str | None, now: int) -> Key:
        """Revoke a key (of an entity, or of any). May be called twice. Raise MissingError."""
        with self._database.write() as connection:
            query = select(api_keys.c.id).join_from(api_keys, principals).join(entities)
            query = query.where(api_keys.c.id == key)
            if entity is not None:
                query = query.where(entities.c.name == entity)
            if connection.scalar(query) is None:
                raise MissingError(f"there is no key {key!r}")
            connection.execute(
                update(api_keys).where(api_keys.c.id == key, api_keys.c.revoked.is_(None)).values(revoked=now)
            )
        return next(each for each in self.list_keys(entity) if each.id == key)

    def note_used(self, used: Mapping[str, int]) -> None:
        """Write down when keys were last used."""
        with self._database.write() as connection:
            for key, time in used.items():
                connection.execute(update(api_keys).where(api_keys.c.id == key).values(used=time))

    def try_key(self, text: str, now: int) -> Identity | None:
        """Return who a key stands for, or None when it is unknown, expired or revoked."""
        key = parse_secret(KEY_PREFIX, text)
        if key is None:
            return None
        with self._database.read() as connection:
            row = (
                connection.execute(
                    select(
                        api_keys.c.digest,
                        api_keys.c.scopes,
                        api_keys.c.expires,
                        api_keys.c.revoked,
                        *_WHO,
                    )
                    .join_from(api_keys, principals)
                    .join(entities)
                    .where(api_keys.c.id == key)
                )
                .mappings()
                .first()
            )
        if row is None or not secret_matches(text, row["digest"]):
            return None
        if row["revoked"] is not None or _over(row["expires"], now) or row["disabled"] is not None:
            return None
        return Identity(_principal(row, row["principal_id"], _scopes(row)), key, row["expires"])

    # --- sessions and sign-in links ---

    def create_session(self, identity: Identity, now: int) -> Secret:
        """Sign a browser in with the scopes of what was presented; it never outlives that."""
        secret = new_secret(SESSION_PREFIX)
        end = now + SESSION_S * SECOND_NS
        principal = identity.principal
        with self._database.write() as connection:
            connection.execute(delete(sessions).where(sessions.c.expires <= now))
            connection.execute(
                sessions.insert().values(
                    digest=secret.digest,
                    principal_id=principal.id,
                    key_id=identity.key,
                    scopes=_stored(principal.scopes),
                    created=now,
                    expires=end if identity.expires is None else min(end, identity.expires),
                )
            )
        return secret

    def try_session(self, text: str, now: int) -> Identity | None:
        """Return who a session cookie stands for, or None when it is unknown or over."""
        if parse_secret(SESSION_PREFIX, text) is None:
            return None
        with self._database.read() as connection:
            row = (
                connection.execute(
                    select(sessions.c.scopes, sessions.c.expires, api_keys.c.revoked, *_WHO)
                    .join_from(sessions, principals)
                    .join(entities)
                    .outerjoin(api_keys, api_keys.c.id == sessions.c.key_id)
                    .where(sessions.c.digest == digest_secret(text))
                )
                .mappings()
                .first()
            )
        if row is None or _over(row["expires"], now):
            return None
        if row["revoked"] is not None or row["disabled"] is not None:
            return None
        return Identity(_principal(row, row["principal_id"], _scopes(row)), None, row["expires"])

    def delete_session(self, text: str) -> None:
        """Sign a browser out."""
        with self._database.write() as connection:
            connection.execute(delete(sessions).where(sessions.c.digest == digest_secret(text)))

    def create_signin(self, principal: Principal, scopes: tuple[str, ...], now: int) -> Secret:
        """Make a one-time sign-in token."""
        secret = new_secret(SIGNIN_PREFIX)
        with self._database.write() as connection:
            connection.execute(delete(signin_tokens).where(signin_tokens.c.expires <= now))
            connection.execute(
                signin_tokens.insert().values(
                    digest=secret.digest,
                    principal_id=principal.id,
                    scopes=",".join(scopes),
                    created=now,
                    expires=now + SIGNIN_S * SECOND_NS,
                )
            )
        return secret

    def take_signin(self, text: str, now: int) -> Identity | None:
        """Use up a one-time sign-in token. None when it is unknown, used or over."""
        if parse_secret(SIGNIN_PREFIX, text) is None:
            return None
        with self._database.write() as connection:
            row = (
                connection.execute(
                    select(signin_tokens.c.scopes, signin_tokens.c.expires, *_WHO)
                    .join_from(signin_tokens, principals)
                    .join(entities)
                    .where(signin_tokens.c.digest == digest_secret(text))
                )
                .mappings()
                .first()
            )
            # Whoever deletes the row has used the link: two requests at once cannot both.
            gone = connection.execute(
                delete(signin_tokens).where(signin_tokens.c.digest == digest_secret(text))
            )
            if row is None or gone.rowcount != 1:
                return None
        if _over(row["expires"], now) or row["disabled"] is not None:
            return None
        return Identity(_principal(row, row["principal_id"], _scopes(row)), None)


_WHO: tuple[Any, ...] = (
    principals.c.id.label("principal_id"),
    principals.c.kind,
    principals.c.name,
    principals.c.entity_id,
    principals.c.disabled,
    entities.c.name.label("entity"),
)


def _principal(row: RowMapping, identifier: int, scopes: frozenset[str]) -> Principal:
    return Principal(
        id=identifier,
        kind=row["kind"],
        entity_id=row["entity_id"],
        entity=row["entity"],
        name=row["name"],
        scopes=scopes,
    )


def _key(row: RowMapping) -> Key:
    return Key(
        id=row["id"],
        name=row["name"],
        entity=row["entity"],
        principal=row["principal"],
        kind=row["kind"],
        scopes=tuple(row["scopes"].split(",")),
        created=row["created"],
        expires=row["expires"],
        used=row["used"],
        revoked=row["revoked"],
    )


def _inserted(result: Any) -> int:
    identifier = result.inserted_primary_key[0]
    assert isinstance(identifier, int)
    return identifier


def _scopes(row: RowMapping) -> frozenset[str]:
    return frozenset(row["scopes"].split(","))


def _stored(scopes: frozenset[str]) -> str:
    return ",".join(scope for scope in SCOPES if scope in scopes)


def _over(expires: int | None, now: int) -> bool:
    return expires is not None and expires <= now
