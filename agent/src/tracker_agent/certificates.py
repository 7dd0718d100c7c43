"""What a certificate says of itself, as far as people have to be told: for whom, by whom, how long.

Python shows a peer's certificate only once it is trusted, and nothing of one that is not; so the few fields
that messages name are read here, from DER (X.690, RFC 5280). No decision about trust is made with them.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

_OID = 0x06
_VERSION, _EXTENSIONS, _DNS_NAME, _IP_ADDRESS = 0xA0, 0xA3, 0x82, 0x87
_SHORT_TIME = 0x17  # two digits for the year
#: Of a name, the parts that people know, in the order in which they are shown.
_NAME_PARTS = {b"\x55\x04\x03": "CN", b"\x55\x04\x0a": "O", b"\x55\x04\x0b": "OU"}
_ALTERNATIVE_NAMES = b"\x55\x1d\x11"
_NAMES_MAX = 5
_TEXT_MAX = 100
_PEM = re.compile(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Certificate:
    """The fields of a certificate that messages name."""

    subject: str
    issuer: str
    begins: datetime
    ends: datetime
    names: tuple[str, ...]  #: hosts that it is for


def parse_certificate(der: bytes) -> Certificate:
    """Return what a certificate says. Raise ValueError when it is none."""
    try:
        (_, whole), *_ = _values(der)
        (_, signed), *_ = _values(whole)
        fields = [each for each in _values(signed) if each[0] != _VERSION]
        # serial number, signature, issuer, validity, subject, public key, extensions
        begins, ends = (_time(tag, value) for tag, value in _values(fields[3][1]))
        extensions = [value for tag, value in fields[6:] if tag == _EXTENSIONS]
        return Certificate(
            _name(fields[4][1]), _name(fields[2][1]), begins, ends, tuple(_hosts(b"".join(extensions)))
        )
    except (IndexError, ValueError) as error:
        raise ValueError(f"not a certificate: {error}") from error


def parse_certificates(pem: str) -> list[Certificate]:
    """Return the certificates in a PEM file, without those that cannot be read."""
    found = []
    for text in _PEM.findall(pem):
        try:
            found.append(parse_certificate(ssl.PEM_cert_to_DER_cert(text)))
        except ValueError:
            continue
    return found


def _values(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield (tag, content) of the values in DER. Raise ValueError."""
    at = 0
    while at < len(data):
        tag, size = data[at], data[at + 1]
        at += 2
        if size & 0x80:
            count = size & 0x7F
            if not 0 < count <= 4:
                raise ValueError("a length that is none")
            size = int.from_bytes(data[at : at + count])
            at += count
        if at + size > len(data):
            raise ValueError("it is cut off")
        yield tag, data[at : at + size]
        at += size


def _name(data: bytes) -> str:
    """Return a distinguished name, such as "CN=Example CA, O=Example"."""
    parts: dict[str, str] = {}
    for _, part in _values(data):
        for _, pair in _values(part):
            (_, kind), (_, text), *_ = _values(pair)
            if kind in _NAME_PARTS:
                parts.setdefault(_NAME_PARTS[kind], _text(text))
    return ", ".join(f"{kind}={parts[kind]}" for kind in _NAME_PARTS.values() if kind in parts) or "no name"


def _hosts(extensions: bytes) -> Iterator[str]:
    for _, listed in _values(extensions):
        for _, extension in _values(listed):
            parts = list(_values(extension))
            if parts[0] != (_OID, _ALTERNATIVE_NAMES):
                continue
            (_, names), *_ = _values(parts[-1][1])
            for tag, value in list(_values(names))[:_NAMES_MAX]:
                if tag == _DNS_NAME:
                    yield _text(value)
                elif tag == _IP_ADDRESS and len(value) == 4:
                    yield ".".join(map(str, value))


def _time(tag: int, value: bytes) -> datetime:
    text = value.decode("ascii")
    if tag == _SHORT_TIME:  # 1950 to 2049 (RFC 5280, 4.1.2.5.1)
        text = ("19" if text[:2] >= "50" else "20") + text
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)


def _text(value: bytes) -> str:
    """Return what a certificate calls something: from strangers, so nothing that commands a terminal."""
    text = value.decode("utf-8", "replace")[:_TEXT_MAX]
    return "".join(c if c.isprintable() else "?" for c in text)
