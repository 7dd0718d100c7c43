"""Text and JSON in the form every database can hold: valid Unicode without NUL, no NaN in JSON."""

import base64
import json
import math
from typing import Any

#: Values nested deeper than this are not kept as JSON.
DEPTH_MAX = 64


def clean_text(text: str) -> str:
    """Return text with NUL and lone surrogates written as escapes (\\x00, \\udc80)."""
    if "\x00" in text:
        text = text.replace("\x00", "\\x00")
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def json_value(value: Any, depth: int = DEPTH_MAX) -> Any:
    """Return a decoded msgpack value as JSON can hold it.

    NaN and infinities become the strings "NaN", "Infinity", "-Infinity", bytes and extension types
    base64. Raise ValueError where it is nested too deeply.
    """
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, str):
        return clean_text(value)
    if isinstance(value, float):
        if math.isfinite(value):
            return value
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if depth == 0:
        raise ValueError("nested more than %d deep" % DEPTH_MAX)
    if isinstance(value, dict):
        return {
            clean_text(name if isinstance(name, str) else repr(name)): json_value(item, depth - 1)
            for name, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [json_value(item, depth - 1) for item in value]
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return clean_text(repr(value))


def dump_json(value: Any) -> str:
    """Return a value made by json_value as text."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def load_json(text: str) -> Any:
    """Return the value that dump_json wrote."""
    return json.loads(text)
