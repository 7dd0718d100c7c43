"""What a server's answer means for the agent. Pure: bytes in, one of a few meanings out."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from .exchange import Answer
from .retry import parse_retry_after

PROTOCOL_VERSION = 1


@dataclass(frozen=True, slots=True)
class Retry:
    """Try again after a while; nothing is known of what the server kept."""

    reason: str
    retry_after_s: float | None = None


@dataclass(frozen=True, slots=True)
class Locked:
    """The key or the address is wrong: keep everything and look again now and then."""

    reason: str


@dataclass(frozen=True, slots=True)
class TooLarge:
    """The request was too big for the server or something before it."""

    reason: str


@dataclass(frozen=True, slots=True)
class Rejected:
    """Something in the request is not acceptable; other parts of it may be."""

    reason: str


@dataclass(frozen=True, slots=True)
class StreamAnswer:
    """What became of one stream's entries. error None: everything up to next is stored."""

    uid: int
    stream: bytes
    next: int | None
    error: str | None
    reason: str
    at: int | None


@dataclass(frozen=True, slots=True)
class Accepted:
    """The server committed what it says it committed."""

    epoch: str
    streams: list[StreamAnswer]


@dataclass(frozen=True, slots=True)
class StreamOffset:
    """How far a stream is stored.

    crc is that of the line at `last`, the last one stored; None after a gap.
    """

    uid: int
    stream: bytes
    next: int
    crc: int | None
    last: int | None


@dataclass(frozen=True, slots=True)
class Offsets:
    """How far each stream is stored."""

    epoch: str
    streams: list[StreamOffset]


@dataclass(frozen=True, slots=True)
class Server:
    """A Tracker server that speaks our protocol."""

    version: str
    epoch: str
    capabilities: frozenset[str] = frozenset()  #: what it offers beyond what every server has to


Failure = Retry | Locked | TooLarge | Rejected


def parse_failure(answer: Answer, now_s: float) -> Failure | None:
    """Return what an answer that is no 2xx means; None for a 2xx."""
    status = answer.status
    if 200 <= status < 300:
        return None
    reason = f"{status}: {_reason(answer)}"
    if status in (401, 403, 404):
        return Locked(reason)
    if status == 413:
        return TooLarge(reason)
    if status == 400 and _code(answer) == "bad_protocol":
        return Locked(reason)  # the server was upgraded, or set back, while we ran
    if status in (400, 422):
        return Rejected(reason)
    if 300 <= status < 400:
        where = answer.headers.get("location", "elsewhere")
        return Retry(f"{status}: points to {where[:200]}; redirects are not followed, set the final address")
    return Retry(reason, parse_retry_after(answer.headers.get("retry-after"), now_s))


def parse_ingest(answer: Answer, now_s: float) -> Accepted | Failure:
    """Return the meaning of an answer to POST /api/v1/ingest.

    A 409 that says where the streams of the request go on is as good as a 200.
    """
    failure = None if answer.status == 409 and _names_streams(answer) else parse_failure(answer, now_s)
    if failure is not None:
        return failure
    try:
        fields = _object(answer)
        return Accepted(_text(fields, "epoch"), [_stream_answer(item) for item in fields["streams"]])
    except (ValueError, KeyError, TypeError) as error:
        return Retry(f"{answer.status} with a body that is no answer to an ingest request: {error}")


def parse_offsets(answer: Answer, now_s: float) -> Offsets | Failure:
    """Return the meaning of an answer to POST /api/v1/streams/offsets."""
    failure = parse_failure(answer, now_s)
    if failure is not None:
        return failure
    try:
        fields = _object(answer)
        return Offsets(_text(fields, "epoch"), [_stream_offset(item) for item in fields["streams"]])
    except (ValueError, KeyError, TypeError) as error:
        return Retry(f"{answer.status} with a body that is no answer about offsets: {error}")


def parse_server(answer: Answer, now_s: float) -> Server | Retry | Locked:
    """Return the meaning of an answer to GET /api/v1/server."""
    failure = parse_failure(answer, now_s)
    if isinstance(failure, Retry):
        return failure
    if failure is not None:
        return Locked(f"not a Tracker server: GET /api/v1/server answered {answer.status}")
    try:
        fields = _object(answer)
        if fields["server"] != "tracker":
            raise ValueError("it calls itself something else")
        first, last = (int(version) for version in fields["protocol"])
        offered = fields.get("capabilities", [])
        capabilities = frozenset(each for each in offered if isinstance(each, str))
        server = Server(_text(fields, "version"), _text(fields, "epoch"), capabilities)
    except (ValueError, KeyError, TypeError):
        return Locked("not a Tracker server: GET /api/v1/server answered something else")
    if not first <= PROTOCOL_VERSION <= last:
        return Locked(
            f"the server speaks protocol {first} to {last}, this agent {PROTOCOL_VERSION}: "
            "upgrade the older one"
        )
    return server


def _names_streams(answer: Answer) -> bool:
    try:
        return "streams" in _object(answer)
    except ValueError:
        return False


def _object(answer: Answer) -> dict[str, Any]:
    try:
        fields = json.loads(answer.body)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if not isinstance(fields, dict):
        raise ValueError("not a JSON object")  # noqa: TRY004 - one kind of error for all of it
    return fields


def _code(answer: Answer) -> str:
    try:
        return str(_object(answer).get("error"))
    except ValueError:
        return ""


def _reason(answer: Answer) -> str:
    try:
        fields = _object(answer)
        texts = [str(fields[name]) for name in ("error", "reason", "hint") if fields.get(name)]
    except ValueError:
        texts = [answer.body[:200].decode("utf-8", "replace").strip()]
    return "; ".join(texts)[:500] or "no reason given"


def _text(fields: dict[str, Any], name: str) -> str:
    value = fields[name]
    if not isinstance(value, str):
        raise ValueError(f"{name} is not a string")  # noqa: TRY004
    return value


def _offset(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise ValueError("an offset is not a number")
    return value


def _stream_id(item: Any) -> tuple[int, bytes]:
    stream = bytes.fromhex(item["stream"])
    if type(item["uid"]) is not int or len(stream) != 16:
        raise ValueError("a stream has no uid and id")
    return item["uid"], stream


def _stream_answer(item: Any) -> StreamAnswer:
    uid, stream = _stream_id(item)
    error = item.get("error")
    following = item["next"] if error is None else item.get("next")
    at = item.get("at")
    return StreamAnswer(
        uid,
        stream,
        None if following is None and error is not None else _offset(following),
        None if error is None else str(error),
        str(item.get("reason") or "")[:500],
        None if at is None else _offset(at),
    )


def _stream_offset(item: Any) -> StreamOffset:
    uid, stream = _stream_id(item)
    crc, last = item.get("crc"), item.get("last")
    known = crc is not None and last is not None
    return StreamOffset(
        uid, stream, _offset(item["next"]), _offset(crc) if known else None, _offset(last) if known else None
    )
