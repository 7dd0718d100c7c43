"""What `top` draws: lanes, busiest streams, losses and the machine at a glance, for a terminal of any size.

Pure: from what the agent said to something rich can print.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from .attention import loss_text, plural, problems
from .readable import duration, printable, size

#: Below this many columns only what matters most is shown; from the others on there is room for more.
NARROW_COLUMNS = 60
USER_COLUMNS = 76
MEDIUM_COLUMNS = 100
STREAM_ID_COLUMNS = 112
#: Rows of lanes and of problems at most; streams get what is left of the screen, and at least a few.
LANES_MAX = 6
PROBLEMS_MAX = 5
STREAMS_MIN = 3
GPUS_MAX = 8
#: Long names give way to figures.
RUN_COLUMNS_MIN = 14
USER_COLUMNS_MAX = 16
_COLOURS = {
    "shipping": "green", "idle": "green", "well": "green", "connecting": "yellow", "starting": "yellow",
    "retrying": "yellow", "stalled": "red", "parked": "red", "refused": "red", "stuck": "red",
}  # fmt: skip


def draw(message: Mapping[str, Any], rates: Mapping[str, float], width: int, height: int) -> RenderableType:
    """Return one screen. rates: bytes a second that servers take (shipped) and the wire carries (sent)."""
    status = message["status"]
    parts: list[RenderableType] = [
        _head(status),
        *_flow(status, rates),
        *_machine(message["host"], width),
        Text(""),
    ]
    lanes = status["shipping"].get("lanes", [])[:LANES_MAX]
    parts.append(_lanes(lanes, width))
    wrong = _wrong(status)
    used = len(parts) + len(lanes) + 1 + (len(wrong) + 1 if wrong else 0) + 3
    room = max(STREAMS_MIN, height - used)
    parts += [Text(""), _streams(message["streams"], room, width)]
    if wrong:
        parts += [Text(""), *wrong]
    return Group(*parts)


def _short(count: float) -> str:
    """Return bytes in a unit people read, in few columns."""
    return size(count).replace(" bytes", " B")


def _line(text: str, style: str = "") -> Text:
    return Text(printable(text), style=style, no_wrap=True, overflow="ellipsis")


def _head(status: Mapping[str, Any]) -> Text:
    agent, health = status["agent"], status["health"]
    line = _line(f"tracker-agent {agent['version']} on {agent['host']}  ", "bold")
    line.append(health["state"], _COLOURS.get(health["state"], ""))
    line.append(f"  up {duration(agent['uptime_s'])}, {size(agent['rss_bytes'])}", "dim")
    return line


def _flow(status: Mapping[str, Any], rates: Mapping[str, float]) -> list[Text]:
    shipping = status["shipping"]
    behind, streams = shipping.get("behind", {}), shipping.get("streams", {})
    wait = shipping.get("oldest_wait_s") or 0.0
    waits = f", waiting for {duration(wait)}" if wait else ""
    known, live, parked = (streams.get(each, 0) for each in ("known", "live", "parked"))
    return [
        _line(f"{plural(known, 'stream')}: {live} live, {behind.get('streams', 0)} behind, {parked} parked"),
        _line(
            f"{size(behind.get('bytes', 0))} behind{waits}, {size(rates.get('shipped', 0))}/s shipped, "
            f"{size(rates.get('sent', 0))}/s on the wire"
        ),
    ]


def _machine(host: Mapping[str, float], width: int) -> list[Text]:
    """Return one line about the machine and one about its GPUs; none while nothing was measured."""
    parts = []
    for name, text in (("host.cpu.percent", "CPU {:.0f} %"), ("host.memory.percent", "memory {:.0f} %")):
        if name in host:
            parts.append(text.format(host[name]))
    for name, text in (
        ("host.network.received.bytes_per_s", "net in {}/s"), ("host.network.sent.bytes_per_s", "out {}/s"),
        ("host.disk.read.bytes_per_s", "disk read {}/s"), ("host.disk.written.bytes_per_s", "written {}/s"),
    ):  # fmt: skip
        if name in host and (width >= NARROW_COLUMNS or "net in" in text):
            parts.append(text.format(_short(host[name])))
    gpus = []
    for index in range(GPUS_MAX):
        busy, memory = (host.get(f"host.gpu.{index}.{each}.percent") for each in ("utilization", "memory"))
        if busy is not None or memory is not None:
            gpus.append("/".join("-" if each is None else f"{each:.0f}" for each in (busy, memory)))
    lines = [_line("  ".join(parts))] if parts else []
    return lines + ([_line("GPU busy/memory %  " + "  ".join(gpus))] if gpus else [])


def _lanes(lanes: list[Mapping[str, Any]], width: int) -> Table:
    """Return the lanes; why one does not ship stands among the problems, which have room for it."""
    table = _table("Key", "State", "Behind", "Streams", "Contact", "Next try")
    table.columns[0].max_width = max(RUN_COLUMNS_MIN, width - 60)
    shown = [True, True, True, width >= NARROW_COLUMNS, width >= NARROW_COLUMNS, width >= NARROW_COLUMNS]
    for lane in lanes:
        contact, again = lane.get("last_contact_s"), lane.get("next_try_s")
        where = f" → {lane['server']}" if lane.get("server") and width >= MEDIUM_COLUMNS else ""
        table.add_row(
            _line(f"{lane['credential']}{where}"),
            _line(lane["state"], _COLOURS.get(lane["state"], "")),
            _line(_short(lane.get("behind_bytes", 0))),
            _line(str(lane["streams"])),
            _line("never" if contact is None else f"{duration(contact)} ago"),
            _line("-" if again is None else f"in {duration(again)}"),
        )
    return _with_columns(table, shown)


def _streams(streams: list[Mapping[str, Any]], room: int, width: int) -> RenderableType:
    if not streams:
        return _line("no stream is live or behind", "dim")
    table = _table("Run", "Rate", "Behind", "Waits", "User", "State", "Stream")
    waits, user, stream = width >= NARROW_COLUMNS, width >= USER_COLUMNS, width >= STREAM_ID_COLUMNS
    table.columns[0].max_width = max(RUN_COLUMNS_MIN, width - (98 if stream else 64 if user else 46))
    table.columns[4].max_width = USER_COLUMNS_MAX
    for each in streams[:room]:
        state = each["parked"] or ("live" if each["live"] else "ended")
        waiting = each["waits_s"]
        table.add_row(
            _line(each["run"] or "(this agent)"),
            _line(f"{_short(each['bytes_per_s'])}/s" if each["bytes_per_s"] else "-"),
            _line(_short(each["behind_bytes"]) if each["behind_bytes"] else "-"),
            _line(duration(waiting) if waiting >= 1 else "-", "yellow" if waiting >= 60 else ""),
            _line(str(each["user"])),
            _line(state, "red" if each["parked"] else "dim" if not each["live"] else ""),
            _line(each["stream"], "dim"),
        )
    return _with_columns(table, [True, True, True, waits, user, True, stream])


def _wrong(status: Mapping[str, Any]) -> list[Text]:
    """Return what was lost, then what needs attention, cut to a few lines."""
    losses = status["shipping"].get("losses", {})
    lost = [
        _line(loss_text(text, each), "red")
        for text, each in sorted(losses.items(), key=lambda item: -item[1]["bytes"])
    ]
    lines = lost[:PROBLEMS_MAX] + [
        _line(f"! {each}", "yellow") for each in problems(status) if not each.startswith("lost")
    ]
    more = len(lines) - PROBLEMS_MAX
    return lines[:PROBLEMS_MAX] + (
        [_line(f"… and {more} more: tracker-agent status", "dim")] if more > 0 else []
    )


def _table(*headings: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold", expand=False)
    for heading in headings:
        numbers = heading in ("Rate", "Behind", "Streams", "Waits")
        table.add_column(heading, justify="right" if numbers else "left", no_wrap=True, overflow="ellipsis")
    return table


def _with_columns(table: Table, shown: list[bool]) -> Table:
    """Leave out the columns that the width has no room for."""
    table.columns = [column for column, wanted in zip(table.columns, shown, strict=True) if wanted]
    return table
