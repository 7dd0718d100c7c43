"""What the store raises. A library's exceptions are turned into these at the door."""


class StoreError(Exception):
    """Base of every error of the store; the message says what failed and what to do."""


class StoreUnavailable(StoreError):
    """The database is locked, gone or unreachable: trying again later may help."""


class StoreDamaged(StoreError):
    """What was read back is not what was written."""


class SchemaTooNew(StoreError):
    """The database was written by a newer server than this one."""


class ChunkError(StoreDamaged):
    """A chunk's bytes are not in the chunk format (docs/storage.md)."""


class NotFound(StoreError):
    """There is no such run, project or host."""


class StoreFull(StoreUnavailable):
    """The disk is full."""
