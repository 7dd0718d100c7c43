"""How the store's numbers and values become JSON."""

from __future__ import annotations

import json
import math
from typing import Any

import msgspec
import numpy as np

from tracker_server.store.points import Floats

from .answers import Number

_ENCODER = msgspec.json.Encoder(enc_hook=str)


def encode_json(answer: Any) -> bytes:
    """Return an answer as JSON. Lone surrogates, which logged text may hold, become escapes."""
    try:
        return _ENCODER.encode(answer)
    except UnicodeEncodeError:
        return json.dumps(msgspec.to_builtins(answer, enc_hook=str), allow_nan=False).encode("ascii")


def number(value: float) -> Number:
    """Return a number, or the string that stands for one that is not finite."""
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def numbers(values: Floats) -> list[Number]:
    """Return the elements of an array as JSON numbers."""
    listed: list[Any] = values.tolist()
    if not np.isfinite(values).all():
        for index in np.flatnonzero(~np.isfinite(values)):
            listed[index] = number(listed[index])
    return listed


def finite_or_none(values: Floats) -> list[float | None]:
    """Return the elements of an array with None for what is not finite."""
    listed: list[Any] = values.tolist()
    for index in np.flatnonzero(~np.isfinite(values)):
        listed[index] = None
    return listed


def json_value(value: Any) -> Any:
    """Return a logged value with every number that is not finite as a string."""
    if isinstance(value, float):
        return number(value)
    if isinstance(value, dict):
        return {str(name): json_value(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [json_value(each) for each in value]
    return value
