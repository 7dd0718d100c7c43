"""Takes secrets out of command lines and addresses before they are recorded.

By name, as docs/files.md lists them: `--api-key VALUE`, `--api-key=VALUE`, `db.password=VALUE`, `{"token":
"VALUE"}`; by form: user names and passwords in addresses, and the keys that well-known services hand out.
"""

import re
from typing import List, Sequence

REMOVED = "[removed]"
#: A name is that of a secret when one of its words is one of these.
WORDS = frozenset(
    ["apikey", "auth", "authorization", "bearer", "cookie", "credential", "credentials", "key", "passphrase"]
    + ["passwd", "password", "pat", "pwd", "secret", "secrets", "token"]
)
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
#: What stands before a value within an argument: name= or "name":, though not the scheme of an address.
_NAME = re.compile(r"""(?<![A-Za-z0-9_.\-])([A-Za-z0-9_.\-]+)["']?\s*[=:]\s*(?!//)""")
_VALUE = re.compile(r""""[^"]*"|'[^']*'|(?:(?i:bearer|basic|token)\s+)?[^\s"'&,;{}\[\]]+""")
_WHOLE = re.compile(r"([-+]*[A-Za-z0-9_.\-]+)=.*\Z", re.DOTALL)
_USER_INFO = re.compile(r"\b([A-Za-z][A-Za-z0-9+.\-]*://)[^\s/@?#]+@")
_KNOWN_KEY = re.compile(
    r"\b(?:tk_[A-Za-z0-9]+_[A-Za-z0-9_\-]{8,}|hf_[A-Za-z0-9]{16,}|sk-[A-Za-z0-9_\-]{16,}|gh[opsu]_[A-Za-z0-9]{20,}"
    r"|github_pat_\w{20,}|glpat-[\w\-]{16,}|xox[abprs]-[\w\-]{10,}|AKIA[A-Z0-9]{12,}"
    r"|eyJ[\w\-]{8,}\.[\w\-]+\.[\w\-]*)"
)


def is_secret_name(name: str) -> bool:
    """Return whether a name is that of a secret: api_key, HF_TOKEN, dbPassword."""
    return any(word.lower() in WORDS for word in _WORD.findall(name))


def without_secrets(arguments: Sequence[str]) -> List[str]:
    """Return a command line with the values of secrets replaced."""
    found: List[str] = []
    pending = False
    for argument in arguments:
        if pending and not argument.startswith("--"):
            found.append(REMOVED)
            pending = False
            continue
        found.append(without_secrets_in(argument))
        pending = argument.startswith("-") and "=" not in argument and is_secret_name(argument)
    return found


def without_secrets_in(text: str) -> str:
    """Return one argument, address or line with the values of secrets replaced."""
    whole = _WHOLE.match(text)
    if whole and is_secret_name(whole.group(1)):
        return "%s=%s" % (whole.group(1), REMOVED)
    text = _without_named(_USER_INFO.sub(r"\1", text))
    return _KNOWN_KEY.sub(REMOVED, text)


def _without_named(text: str) -> str:
    found: List[str] = []
    at = 0
    while True:
        name = _NAME.search(text, at)
        if name is None:
            return "".join(found) + text[at:]
        found.append(text[at : name.end()])
        at = name.end()
        value = _VALUE.match(text, at) if is_secret_name(name.group(1)) else None
        if value is not None:
            found.append(REMOVED)
            at = value.end()
