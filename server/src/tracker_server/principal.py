"""Principal: who stands behind a call. Made by authentication only, checked everywhere else."""

from dataclasses import dataclass

INGEST = "ingest"
READ = "read"
ADMIN = "admin"
SCOPES = frozenset((INGEST, READ, ADMIN))


@dataclass(frozen=True)
class Principal:
    """A user or service account of one entity, with the scopes of the key or session used."""

    id: int
    kind: str  #: "user" or "service"
    entity_id: int
    entity: str
    name: str
    scopes: frozenset[str]

    def may(self, scope: str) -> bool:
        """Return whether a scope is held; admin holds all."""
        return scope in self.scopes or ADMIN in self.scopes

    @property
    def trusted(self) -> bool:
        """Whether this principal may speak about other principals' streams and hosts (agents do)."""
        return self.kind == "service" or ADMIN in self.scopes
