"""What comes of a request to a server: an answer, or none. Not in the transport, which loads slowly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


class TransportError(Exception):
    """No answer came. str() says what happened, for the operator."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server answered. Header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes
