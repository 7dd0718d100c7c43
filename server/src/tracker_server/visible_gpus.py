"""Which GPUs of a machine a process was given, by what its environment said: pure functions.

What it uses (process.gpu.<index>.…) is better evidence, but is there only once it uses them.
CUDA: "CUDA environment variables" in NVIDIA's CUDA C++ programming guide. NVIDIA_VISIBLE_DEVICES: the NVIDIA
container toolkit. ROCR_VISIBLE_DEVICES: "GPU isolation techniques" of ROCm.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

#: Values of NVIDIA_VISIBLE_DEVICES that choose nothing: devices, if any, came in another way.
_NO_CHOICE = frozenset(("", "all", "void"))
_OLD_MIG = re.compile(r"MIG-(GPU-[0-9a-f-]+)/(\d{1,4})/(\d{1,4})", re.IGNORECASE)
_UUID = re.compile(r"(GPU|MIG)-[0-9a-f-]+", re.IGNORECASE)
_PART = re.compile(r"(\d{1,4}):(\d{1,4})")
_INDEX = re.compile(r"\d{1,4}")


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU of the inventory, or one MIG device of it."""

    index: int  #: as in host.gpu.<index>
    uuid: str | None
    mig: str | None = None  #: UUID of the MIG device


class Visible(NamedTuple):
    """GPUs in the order that the process counts them in.

    certain: the variables cannot mean other GPUs of this machine. unknown: words that name nothing there.
    """

    gpus: tuple[Gpu, ...]
    certain: bool
    unknown: tuple[str, ...] = ()


#: A GPU with what the inventory says about it.
_Entry = tuple[Gpu, Mapping[str, Any]]
_Entries = tuple[_Entry, ...]


class _Choice(NamedTuple):
    entries: _Entries
    certain: bool
    unknown: tuple[str, ...] = ()


def visible_gpus(variables: Mapping[str, str], inventory: Sequence[Any]) -> Visible | None:
    """Return the GPUs that a process sees; None where its environment chose none in particular.

    variables: those of the stream's HEADER. inventory: "gpus" of the machine's HOST record, any JSON.
    """
    entries = _entries(inventory)
    amd = tuple(entry for entry in entries if entry[1].get("vendor") == "amd")
    nvidia = tuple(entry for entry in entries if entry[1].get("vendor") != "amd")
    cuda, rocr = variables.get("CUDA_VISIBLE_DEVICES"), variables.get("ROCR_VISIBLE_DEVICES")
    # HIP goes by CUDA's variable as well, within what ROCR's leaves. A variable of a maker whose GPUs are not
    # there chooses nothing.
    chosen = [
        _narrowed(nvidia, _of_container(nvidia, variables.get("NVIDIA_VISIBLE_DEVICES")), cuda),
        _narrowed(
            amd,
            None if rocr is None or not amd else _list(_counted(amd), rocr, sure=_alone(amd)),
            None if nvidia else cuda,
        ),
    ]
    found = [choice for choice in chosen if choice is not None]
    if not found:
        return None
    gpus = tuple(gpu for choice in found for gpu, _ in choice.entries)
    unknown = tuple(word for choice in found for word in choice.unknown)
    return Visible(
        tuple(dict.fromkeys(gpus)), all(choice.certain for choice in found) and not unknown, unknown
    )


def _entries(inventory: Sequence[Any]) -> _Entries:
    found = []
    for gpu in inventory if isinstance(inventory, list | tuple) else ():
        if isinstance(gpu, dict) and type(gpu.get("index")) is int:
            uuid = gpu.get("uuid")
            found.append((Gpu(gpu["index"], uuid if isinstance(uuid, str) else None), gpu))
    return tuple(sorted(found, key=lambda entry: entry[0].index))


def _of_container(gpus: _Entries, text: str | None) -> _Choice | None:
    """Return what a container was given; outside of one the variable has no effect, and is seldom set."""
    if not gpus or text is None or text.strip().lower() in _NO_CHOICE or "all" in text.split(","):
        return None
    if text.strip().lower() == "none":
        return _Choice((), certain=False)
    # By the index of nvidia-smi, which is that of the inventory, not as CUDA counts.
    return _list({gpu.index: (gpu, facts) for gpu, facts in gpus}, text, sure=True)


def _narrowed(gpus: _Entries, base: _Choice | None, text: str | None) -> _Choice | None:
    """Return what CUDA_VISIBLE_DEVICES leaves of what a container has."""
    if text is None or not gpus:
        return base
    if base is None:
        return _list(_counted(gpus), text, sure=_alone(gpus))
    choice = _list(_counted(base.entries), text, sure=_alike(base.entries))
    return choice._replace(certain=choice.certain and base.certain, unknown=base.unknown + choice.unknown)


def _list(by_index: Mapping[int, _Entry], text: str, *, sure: bool) -> _Choice:
    """Return what a list names. As CUDA reads it, it ends at the first word that names nothing.

    sure: an index means that very GPU. A batch system may have hidden some from the process, and CUDA
    counts from the fastest.
    """
    found: list[_Entry] = []
    certain = True
    for word in (part.strip() for part in text.split(",")):
        if not word or word == "-1" or word.lower() == "nodevfiles":
            break
        if _INDEX.fullmatch(word):
            entry = by_index.get(int(word))
            certain = certain and sure
        else:
            entry = _named(tuple(by_index.values()), word)
        if entry is None:
            return _Choice(tuple(found), certain=False, unknown=(word[:64],))
        found.append(entry)
    everything = len(by_index) == len({gpu for gpu, _ in found}) and _alike(tuple(found))
    return _Choice(tuple(found), certain=certain or everything)


def _counted(gpus: _Entries) -> dict[int, _Entry]:
    return dict(enumerate(gpus))


def _named(gpus: _Entries, word: str) -> _Entry | None:
    """Return what a UUID, the beginning of one that fits one device alone, or "GPU:part" names."""
    old, part = _OLD_MIG.fullmatch(word), _PART.fullmatch(word)
    matches: list[_Entry] = []
    for gpu, facts in gpus:
        parts = [each for each in _parts(facts) if isinstance(each.get("uuid"), str)]
        if old:
            same = (gpu.uuid or "").lower() == old[1].lower()
            ids = [int(old[2]), int(old[3])]
            matches += [
                (replace(gpu, mig=each["uuid"]), facts)
                for each in parts
                if same and [each.get("gi"), each.get("ci")] == ids
            ]
        elif part:
            matches += [
                (replace(gpu, mig=each["uuid"]), facts)
                for each in parts
                if gpu.index == int(part[1]) and each.get("index") == int(part[2])
            ]
        elif _UUID.fullmatch(word):
            if gpu.mig is None and (gpu.uuid or "").lower().startswith(word.lower()):
                matches.append((gpu, facts))
            matches += [
                (replace(gpu, mig=each["uuid"]), facts)
                for each in parts
                if gpu.mig in (None, each["uuid"]) and each["uuid"].lower().startswith(word.lower())
            ]
    return matches[0] if len(matches) == 1 else None


def _parts(facts: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    parts = facts.get("mig_devices")
    return [part for part in parts if isinstance(part, dict)] if isinstance(parts, list) else []


def _alike(gpus: _Entries) -> bool:
    """Return whether CUDA's order, the fastest first, is the inventory's: all are the same, none is split."""
    return len({str(facts.get("name")) for _, facts in gpus}) <= 1 and not any(
        _parts(facts) and gpu.mig is None for gpu, facts in gpus
    )


def _alone(gpus: _Entries) -> bool:
    """Return whether there is but one whole GPU to mean."""
    return len(gpus) == 1 and _alike(gpus)
