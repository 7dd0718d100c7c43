"""Takes secrets out of texts that leave the machine: those that are known, and whatever looks like one."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

from .settings import Config, fields_of

REMOVED = "[removed]"
#: A shorter string is no secret, and replacing it everywhere would spoil the text.
SECRET_CHARACTERS_MIN = 6
_PATTERNS = (
    # What stands in front of the secret is kept.
    re.compile(r"()\btk_[A-Za-z0-9]{1,64}_[A-Za-z0-9_\-]{8,}"),
    re.compile(r"(\b[a-zA-Z][a-zA-Z0-9+.\-]*://)[^/\s@\"']+@"),
    re.compile(r"(?i)(\b(?:proxy-)?authorization\b[\"']?\s*[:=]\s*[\"']?)[^\"'\r\n,}]+"),
    re.compile(r"(?i)(\b(?:bearer|basic)\s+)[A-Za-z0-9._~+/=\-]{6,}"),
    re.compile(
        r"(?i)(\b\w*(?:password|passwd|secret|api_?key|token|cookie)\w*[\"']?\s*[:=]\s*[\"']?)[^\s\"',}]+"
    ),
    re.compile(r"()-----BEGIN [A-Z ]*PRIVATE KEY-----.*?-----END [A-Z ]*PRIVATE KEY-----", re.DOTALL),
)


def public_part(key: str) -> str | None:
    """Return the part of a key that may be shown: its id. None where there is no key."""
    parts = key.split("_")
    return f"{parts[0]}_{parts[1]}_…" if len(parts) >= 3 else ("set" if key else None)


class Redactor:
    """Removes the given secrets, longest first, then what looks like one."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        spellings = {
            each for secret in secrets if len(secret) >= SECRET_CHARACTERS_MIN for each in _spellings(secret)
        }
        self._secrets = sorted(spellings, key=len, reverse=True)

    def text(self, text: str) -> str:
        """Return a text without secrets."""
        for secret in self._secrets:
            text = text.replace(secret, REMOVED)
        for pattern in _PATTERNS:
            text = pattern.sub(rf"\g<1>{REMOVED}", text)
        return text

    def value(self, value: Any) -> Any:
        """Return plain JSON values without secrets, keys of maps included."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return {self.text(str(name)): self.value(each) for name, each in value.items()}
        if isinstance(value, list | tuple):
            return [self.value(each) for each in value]
        return value


def config_without_secrets(config: Config) -> dict[str, Any]:
    """Return every setting as plain JSON values, those that are secret as whether they are set."""
    shown: dict[str, Any] = {"file": str(config.file) if config.file else None}
    for section in config.section_names():
        settings = config.section(section)
        shown[section] = {
            name: (REMOVED if getattr(settings, name) else "")
            if field.metadata["secret"]
            else getattr(settings, name)
            for name, field in fields_of(section).items()
        }
    return shown


def secrets_of(config: Config) -> Iterator[str]:
    """Yield every secret of a configuration."""
    for section in config.section_names():
        settings = config.section(section)
        for name, field in fields_of(section).items():
            value = getattr(settings, name)
            for text in (value if isinstance(value, tuple) else (value,)) if field.metadata["secret"] else ():
                yield text
                # Of a header, the value alone is a secret, too.
                yield text.partition(":")[2].strip()
    for server in config.servers.values():
        yield server.proxy_password


def strings_in(document: Any) -> Iterator[str]:
    """Yield every string value in plain JSON values: what a file of credentials may hold."""
    if isinstance(document, str):
        yield document
    elif isinstance(document, dict):
        for each in document.values():
            yield from strings_in(each)
    elif isinstance(document, list):
        for each in document:
            yield from strings_in(each)


def _spellings(secret: str) -> Iterator[str]:
    """Yield a secret as it stands, and as JSON has it."""
    yield secret
    yield json.dumps(secret)[1:-1]
    yield json.dumps(secret, ensure_ascii=False)[1:-1]
