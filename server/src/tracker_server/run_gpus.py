"""Which GPUs of a machine a run has: those its processes were seen on, else those its writers were given."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .store.streams import Stream
from .visible_gpus import visible_gpus

#: Metrics of a writer that say on which GPU the driver saw its processes.
_SEEN = re.compile(r"system\.(\d+)\.process\.gpu\.(\d{1,4})\..*", re.DOTALL)


@dataclass
class RunGpu:
    """One GPU, or MIG device of it, and the ordinals of the writers that have it."""

    index: int
    uuid: str | None = None
    mig: str | None = None
    name: str | None = None
    streams: list[int] = field(default_factory=list)
    seen: bool = False


def seen_gpus(metrics: Iterable[str]) -> dict[int, set[int]]:
    """Return the indexes of the GPUs each writer was seen on, from the names of what was sampled of it."""
    found: dict[int, set[int]] = {}
    for name in metrics:
        if match := _SEEN.fullmatch(name):
            found.setdefault(int(match[1]), set()).add(int(match[2]))
    return found


def run_gpus(
    streams: Sequence[Stream], seen: Mapping[int, set[int]], inventory: Mapping[str, Any]
) -> list[RunGpu] | None:
    """Return the GPUs of one machine that writers of a run have, by index; None where none of them says.

    streams: the writers on that machine. inventory: what the agent told of it. What an environment names is
    taken as it is, even where a batch system may have meant others: as soon as they are used it is known.
    """
    gpus = inventory.get("gpus")
    facts = [each for each in gpus if isinstance(each, dict)] if isinstance(gpus, list) else []
    by_index = {each["index"]: each for each in facts if isinstance(each.get("index"), int)}
    found: dict[tuple[int, str | None], RunGpu] = {}
    told = False
    for stream in streams:
        devices: list[tuple[int, str | None, bool]]
        if stream.ordinal in seen:
            devices = [(index, None, True) for index in sorted(seen[stream.ordinal])]
        else:
            given = visible_gpus(stream.gpus or {}, facts)
            if given is None or not (given.certain or given.gpus):
                continue
            devices = [(gpu.index, gpu.mig, False) for gpu in given.gpus]
        told = True
        for index, mig, was_seen in devices:
            gpu = found.setdefault((index, mig), RunGpu(index, mig=mig))
            gpu.seen = gpu.seen or was_seen
            gpu.streams.append(stream.ordinal)
            known = by_index.get(index, {})
            gpu.uuid, gpu.name = _text(known.get("uuid")), _text(known.get("name"))
    return [found[key] for key in sorted(found, key=lambda key: (key[0], key[1] or ""))] if told else None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None
