"""Every reason for which something is lost: the one list behind gaps, counters, status, metrics and docs.

A reason travels as a text, "code: what happened". The code never changes its meaning; what follows the
colon is for people and may name details, such as the words of a server.
"""

from __future__ import annotations

import enum

TEXT_CHARACTERS_MAX = 500


class LossReason(enum.Enum):
    """Code and sentence of each reason."""

    DAMAGED = "damaged", "the bytes are no records"
    TORN_TAIL = "torn_tail", "the writer died within a record"
    MISSING = "missing", "no file holds these bytes"
    REFUSED = "refused", "the server does not take this record"
    TOO_LARGE = "too_large", "the server takes no request as large as this record"
    DELETED = "deleted", "deleted from the spool before it was shipped"
    SERVER_LOST = "server_lost", "the server lost these bytes, and the files that held them are gone"
    USER_LIMIT = "user_limit", "a user's limit of bytes in the spool is reached (limits.spool_bytes_per_user)"
    SPOOL_LIMIT = "spool_limit", "the limit of bytes in the spool is reached (limits.spool_bytes)"
    STATE_LIMIT = "state_limit", "the limit of the agent's own data is reached (limits.state_bytes)"
    NOT_WRITTEN = "not_written", "the agent could not write down what it measured or saw"
    FILE_GONE = "file_gone", "a run's file was deleted or changed before the server had it"
    FILE_REFUSED = "file_refused", "the server does not take this file"
    FILE_TOO_LARGE = "file_too_large", "the file is larger than files.bytes_max"
    OTHER = "other", "a reason of an older or newer agent"

    def __init__(self, code: str, sentence: str) -> None:
        self.code = code
        self.sentence = sentence

    @property
    def text(self) -> str:
        """What is written into gaps, logs and counters."""
        return f"{self.code}: {self.sentence}"

    def because(self, detail: str) -> str:
        """Return the text with details instead of the general sentence."""
        return f"{self.code}: {detail}"[:TEXT_CHARACTERS_MAX]


_BY_CODE = {reason.code: reason for reason in LossReason}


def reason_of(text: str) -> LossReason:
    """Return the reason that a text names."""
    return _BY_CODE.get(text.partition(":")[0], LossReason.OTHER)
