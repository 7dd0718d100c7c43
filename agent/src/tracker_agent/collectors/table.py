"""docs/host-metrics.md, made of what the collectors declare: `python -m tracker_agent.collectors.table`."""

from __future__ import annotations

import dataclasses
import inspect
import json
from collections.abc import Iterator

from ..settings import CollectorSettings
from .chosen import COLLECTORS
from .collector import Collector

COMMAND = "python -m tracker_agent.collectors.table > docs/host-metrics.md"

_HEAD = f"""\
# What is measured

Made from the code by `{COMMAND}`; change it there.

Each collector is asked every `sampler.interval_s` (2 s) or at an interval of its own, and every
`sampler.window_s` (30 s) one record goes out with mean, minimum, maximum, last value and count of each
metric. The first goes out at once, with one sample. `tracker-agent sample NAME` shows what a collector
brings on a machine, `tracker-agent status` how each fares.

- A value that is not to be had is left out, never 0. A counter that started again, and a device that is
  new, bring no rate for that interval.
- A collector that fails or hangs costs its own values and nobody else's. It shows as `failing`, or as
  `stuck` once it takes longer than its deadline, and is asked on.
- A window is as long as it says. One during which the machine was suspended ends where it was last seen
  awake; when the agent itself stood still, the rates of that time get a window of their own. Lengths are of
  the monotonic clock, ends of the wall clock as it was then.
- Events become alerts of the host at once. The same one is told once a minute, with the number of
  repetitions; of different ones 100 a minute are told, the others counted.
- Values about single writers of runs go to the server that has the run and show on its page.
- `#` stands for a device: an index or a name.

"""


def table() -> Iterator[str]:
    """Yield the lines of the document."""
    yield _HEAD
    yield "| collector | what | interval | unless told otherwise | cost of a sample |\n"
    yield "|---|---|---|---|---|\n"
    for kind in COLLECTORS.values():
        yield _row(
            f"[{kind.name}](#{kind.name})",
            _paragraphs(kind)[0],
            f"{kind.interval_s:g} s" if kind.interval_s else "`sampler.interval_s`",
            "on" if kind.default else "off",
            kind.cost,
        )
    for kind in COLLECTORS.values():
        yield from _section(kind)


def _section(kind: type[Collector]) -> Iterator[str]:
    yield f"\n## {kind.name}\n"
    for paragraph in _paragraphs(kind):
        yield f"\n{paragraph}\n"
    yield f"\nA sample that takes longer than {kind.deadline_s:g} s is stuck.\n"
    inherited = {each.name for each in dataclasses.fields(CollectorSettings)}
    own = [each for each in dataclasses.fields(kind.Settings) if each.metadata and each.name not in inherited]
    if own:
        yield "\n| setting | default | meaning |\n|---|---|---|\n"
    for each in own:
        yield _row(f"`collectors.{kind.name}.{each.name}`", json.dumps(each.default), each.metadata["text"])
    if kind.metrics:
        yield "\n| metric | unit | meaning | source |\n|---|---|---|---|\n"
    for metric in kind.metrics:
        yield _row(f"`{metric.name}`", metric.unit, metric.meaning, metric.source)


def _paragraphs(kind: type[Collector]) -> list[str]:
    """Return the paragraphs of a class's docstring, each on one line."""
    text = inspect.cleandoc(kind.__doc__ or "")
    return [" ".join(paragraph.split()) for paragraph in text.split("\n\n")]


def _row(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"


if __name__ == "__main__":
    print("".join(table()), end="")
