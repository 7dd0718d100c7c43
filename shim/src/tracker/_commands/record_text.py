"""One line for each record: for people, or as JSON for programs."""

import json
import math
import time
from typing import Any, Callable, Dict, List, Optional

from .printing import printable
from .record_flow import GAP, MALFORMED, Entry

#: A person's line shows so much of one value; JSON shows all of it.
CHARACTERS_MAX = 500
#: Of lists and maps within a line, such as the edges of a histogram, so much.
NESTED_CHARACTERS_MAX = 120
#: Letters of the stream id that tell streams of one run apart.
_ID_LETTERS = 8
_KIND_WIDTH = 8


def text_line(entry: Entry, with_stream: bool) -> str:
    """Return a record for a person. with_stream: say which stream it is of."""
    parts = [_clock(entry.time), entry.kind.ljust(_KIND_WIDTH), _body(entry)]
    if with_stream:
        parts.insert(1, entry.stream.hex()[:_ID_LETTERS])
    return "  ".join(parts).rstrip()


def json_line(entry: Entry) -> str:
    """Return a record as one JSON object: stream, offset, kind, time (ns) and what the body holds.

    Bytes are hex digits; NaN and infinities, which JSON has not, are "NaN", "Infinity" and "-Infinity".
    What CONSOLE and OBSERVED call `stream` is `output` and `about` here.
    """
    shown: Dict[str, Any] = {"stream": entry.stream.hex(), "offset": entry.offset, "kind": entry.kind}
    if entry.time is not None:
        shown["time"] = entry.time
    for name, value in entry.fields.items():
        if name == "stream":
            if entry.kind == "HEADER":
                continue
            name = "output" if entry.kind == "CONSOLE" else "about"
        shown[name] = _plain(value)
    return json.dumps(shown)


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    return value


def _clock(time_ns: Optional[int]) -> str:
    if time_ns is None:
        return "-".ljust(23)
    try:
        second = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(time_ns // 10**9))
    except (OverflowError, ValueError, OSError):  # Windows knows no times before 1970
        return str(time_ns).ljust(23)
    return "%s.%03d" % (second, time_ns // 10**6 % 1000)


def _body(entry: Entry) -> str:
    return _cut(_SENTENCES.get(entry.kind, _pairs)(entry.fields))


def _metrics(fields: Dict[str, Any]) -> str:
    return "step %s  %s" % (_step(fields), _pairs(fields["values"]))


def _value(fields: Dict[str, Any]) -> str:
    return "step %s  %s (%s): %s" % (
        _step(fields),
        _name(fields["name"]),
        fields["type"],
        _shown(fields["data"]),
    )


def _step(fields: Dict[str, Any]) -> str:
    return "next" if fields["step"] is None else str(fields["step"])


def _console(fields: Dict[str, Any]) -> str:
    return "%s  %s" % (fields["stream"], " ⏎ ".join(map(printable, fields["lines"])))


def _patch(fields: Dict[str, Any]) -> str:
    removed = ["%s removed" % _name(name) for name in fields["removed"]]
    return " ".join([_pairs(fields["set"])] + removed).strip()


def _run(fields: Dict[str, Any]) -> str:
    return _pairs(fields["fields"])


def _file(fields: Dict[str, Any]) -> str:
    return "%s  %d bytes, %s, SHA-256 %s…" % (
        _name(fields["path"]), fields["size"], _name(fields["policy"]), fields["sha256"].hex()[:12]
    )  # fmt: skip


def _alert(fields: Dict[str, Any]) -> str:
    return "%s: %s: %s" % tuple(printable(fields[name]) for name in ("level", "title", "text"))


def _exit(fields: Dict[str, Any]) -> str:
    parts = ["code %d" % fields["code"]]
    if fields["facts"]:
        parts.append(_pairs(fields["facts"]))
    error = fields["exception"]
    if error:
        parts.append(printable("%s: %s" % (error.get("type", ""), error.get("message", ""))))
    return "  ".join(parts)


def _header(fields: Dict[str, Any]) -> str:
    wanted = ("writer", "role", "pid", "host", "rank", "segment")
    return _pairs({name: fields[name] for name in wanted if name in fields})


def _sample(fields: Dict[str, Any]) -> str:
    means = {name: window[0] for name, window in fields["values"].items()}
    return "%.3g s  %s" % (fields["window"] / 1e9, _pairs(means))


def _observed(fields: Dict[str, Any]) -> str:
    return "%s  %s  %s" % (fields["stream"].hex()[:_ID_LETTERS], fields["state"], _pairs(fields["facts"]))


def _lost(fields: Dict[str, Any]) -> str:
    return "%d records: %s" % (fields["records"], printable(fields["reason"]))


def _gap(fields: Dict[str, Any]) -> str:
    reason = printable(str(fields["reason"]))
    return "%s: %d bytes are no records" % (reason, fields["bytes"]) if "bytes" in fields else reason


def _malformed(fields: Dict[str, Any]) -> str:
    return "a %s of %d bytes: %s" % (fields["of"], len(fields["body"]), printable(fields["reason"]))


_SENTENCES: Dict[str, Callable[[Dict[str, Any]], str]] = {
    "HEADER": _header,
    "METRICS": _metrics,
    "VALUE": _value,
    "CONSOLE": _console,
    "CONFIG": _patch,
    "SUMMARY": _patch,
    "RUN": _run,
    "FILE": _file,
    "ALERT": _alert,
    "EXIT": _exit,
    "SAMPLE": _sample,
    "OBSERVED": _observed,
    "LOST": _lost,
    GAP: _gap,
    MALFORMED: _malformed,
}


def _pairs(values: Dict[str, Any]) -> str:
    shown: List[str] = []
    length = 0
    for name, value in values.items():
        if length > CHARACTERS_MAX:  # the rest would be cut off
            shown.append("…")
            break
        shown.append("%s=%s" % (_name(name), _shown(value)))
        length += len(shown[-1])
    return " ".join(shown)


def _name(name: str) -> str:
    return printable(name) if name and " " not in name and "=" not in name else json.dumps(name)


def _shown(value: Any) -> str:
    """Return a value on one line: words as they are, anything else as JSON."""
    if isinstance(value, str) and value and not set(value) & set(" \"'=\\") and value.isprintable():
        return value
    if isinstance(value, float):
        return "%.9g" % value
    text = printable(json.dumps(_plain(value), ensure_ascii=False))
    return _cut(text, NESTED_CHARACTERS_MAX if isinstance(value, (dict, list)) else CHARACTERS_MAX)


def _cut(text: str, most: int = CHARACTERS_MAX) -> str:
    return text if len(text) <= most else "%s… (%d characters)" % (text[:most], len(text))
