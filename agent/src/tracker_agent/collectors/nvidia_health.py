"""What is wrong with GPUs, judged from what the driver told: problems that last, and events when they begin.

Lives in the agent, not in the process that asks, so that a change is noticed across its restarts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from .collector import Event
from .nvidia_xids import look_up

#: The same Xid on the same GPU is told once in this time; then how many more there were.
REPEAT_S = 60.0
#: So many kinds of Xids by GPU are remembered.
REPEATS_MAX = 256

_RECOVERY = {
    1: "a reset of the GPU",
    2: "a reboot of the machine",
    3: "an end of its peers' traffic to it (drain P2P)",
    4: "an end of all work on it, then a reset",
    5: "a recovery of IMEX",
}
_RECOVERY_CODE = "recovery_action.code"
#: Flags that last until somebody acts: (value, problem, what happened, what to do).
_FLAGS = (
    (
        "rows_remapped.pending.count",
        "a row of memory waits to be replaced",
        "a row of memory is to be replaced",
        "Reset the GPU when it is idle; until then the row may fail again.",
    ),
    (
        "rows_remapped.failed.count",
        "a row of memory could not be replaced",
        "a row of memory could not be replaced",
        "The GPU should be returned to its vendor.",
    ),
    (
        "pages_retired.pending.count",
        "a page of memory waits to be given up",
        "a page of memory is to be given up",
        "Reset the GPU, or reload the driver, when it is idle.",
    ),
)
_KINDS: Mapping[str, tuple[str, str]] = {
    "double bit error": ("error", "memory lost data (double bit ECC error)"),
    "mig changed": ("info", "its MIG devices were changed"),
    "single bit error storm": ("warn", "many single bits of memory are corrected"),
    "memory retired": ("warn", "a part of the memory was retired"),
    "memory retirement failed": ("error", "a part of the memory could not be retired"),
    "poison": ("error", "poisoned data was used; the program that did is affected"),
    "fatal poison": ("error", "poisoned data was used; the GPU needs a reset"),
    "unavailable": ("error", "it is unavailable"),
}


#: (level, title, text, facts)
_Change = tuple[str, str, str, dict[str, Any]]


class Health:
    """Compares each GPU with what it was before, by UUID."""

    def __init__(self) -> None:
        self._before: dict[str, dict[str, float]] = {}
        self._lost: set[str] = set()

    def look(self, gpus: Iterable[Mapping[str, Any]], time_ns: int) -> tuple[list[str], list[Event]]:
        """Return what is wrong now, and what is so since this sample."""
        problems: list[str] = []
        events: list[Event] = []
        for gpu in gpus:
            if "problem" in gpu:
                problems.append(f"GPU {gpu['index']}: {gpu['problem']}")
            key = str(gpu.get("uuid") or gpu["index"])
            now: Mapping[str, float] = gpu["values"]
            # A GPU that is lost, or one value that was not to be had, keeps what was known.
            before = self._before.setdefault(key, {})
            changes = [*self._presence(key, gpu), *_memory(before, now), *_flags(before, now)]
            changes += [*_recovery(before, now), *_links(before, now), *_fabric(before, now)]
            events += [_event(gpu, time_ns, *change) for change in changes]
            before.update(now)
            problems += [f"GPU {gpu['index']}: {problem}" for problem in _lasting(before, now)]
        return problems, events

    def _presence(self, key: str, gpu: Mapping[str, Any]) -> list[_Change]:
        if bool(gpu.get("lost")) == (key in self._lost):
            return []
        if gpu.get("lost"):
            self._lost.add(key)
            text = "What runs on it has failed. Look into the kernel's log; reset the GPU or reboot."
            return [("error", f"does not answer any more: {gpu['problem']}", text, {"lost": True})]
        self._lost.discard(key)
        return [("info", "answers again", "Its values are back.", {"lost": False})]


def _memory(before: Mapping[str, float], now: Mapping[str, float]) -> list[_Change]:
    # The count of the GPU's life is kept over reloads of the driver; not every GPU has it.
    for name in ("ecc.uncorrected.aggregate.count", "ecc.uncorrected.volatile.count"):
        if name in now and name in before:
            new = int(now[name] - before[name])
            if new > 0:
                text = "What used that memory got wrong data or was ended. Drain the GPU and reset it."
                return [("error", f"{new} uncorrected memory errors", text, {"ecc_uncorrected": new})]
            return []
    return []


def _flags(before: Mapping[str, float], now: Mapping[str, float]) -> list[_Change]:
    return [
        ("error", title, advice, {name.rpartition(".")[0]: True})
        for name, _, title, advice in _FLAGS
        if now.get(name) and not before.get(name)
    ]


def _recovery(before: Mapping[str, float], now: Mapping[str, float]) -> list[_Change]:
    code, was = now.get(_RECOVERY_CODE), before.get(_RECOVERY_CODE, 0.0)
    if code is None or code == was:
        return []
    facts = {"recovery_action": int(code)}
    if not code:
        return [("info", "needs nothing any more", "The driver asks for no recovery.", facts)]
    asked = _recovery_text(code)
    return [("error", f"needs {asked}", f"The driver asks for {asked} before the GPU can be used.", facts)]


def _links(before: Mapping[str, float], now: Mapping[str, float]) -> list[_Change]:
    name = "nvlink.links_up.count"
    if name not in now or name not in before or now[name] == before[name]:
        return []
    change = int(now[name] - before[name])
    facts = {"nvlinks_up": int(now[name])}
    if change > 0:
        return [("info", f"{change} NVLinks came up", f"{int(now[name])} work now.", facts)]
    text = f"{int(now[name])} still work. Look at nvidia-smi nvlink -s, cables and switches."
    return [("error", f"{-change} NVLinks went down", text, facts)]


def _fabric(before: Mapping[str, float], now: Mapping[str, float]) -> list[_Change]:
    status = now.get("nvlink.fabric_status.code")
    if not status or status == before.get("nvlink.fabric_status.code"):
        return []
    text = "Look at nvidia-fabricmanager and its log; jobs over several GPUs fail to start."
    return [("error", f"cannot join its NVLink fabric (error {int(status)})", text, {"fabric": int(status)})]


def _lasting(known: dict[str, float], now: Mapping[str, float]) -> list[str]:
    problems = [problem for name, problem, _, _ in _FLAGS if now.get(name)]
    code = now.get(_RECOVERY_CODE)
    if code:
        problems.append(f"needs {_recovery_text(code)}")
    most = known["most links"] = max(known.get("most links", 0.0), now.get("nvlink.links_up.count", 0.0))
    up = now.get("nvlink.links_up.count", most)
    if up < most:
        problems.append(f"{int(most - up)} NVLinks are down")
    if now.get("nvlink.fabric_status.code"):
        problems.append(f"cannot join its NVLink fabric (error {int(now['nvlink.fabric_status.code'])})")
    elif now.get("nvlink.fabric_state.code") in (1.0, 2.0):
        problems.append("waits for the fabric manager to let it join its NVLink fabric")
    width, width_max = now.get("pcie.width.count"), now.get("pcie.width_max.count")
    if width is not None and width_max is not None and width < width_max:
        problems.append(f"PCIe uses {int(width)} of {int(width_max)} lanes")
    return problems


def _recovery_text(code: float) -> str:
    return _RECOVERY.get(int(code), f"recovery action {int(code)}")


class Happenings:
    """Makes events of what the driver told, and holds back those that repeat."""

    def __init__(self) -> None:
        #: By (index of the GPU, what): when it was told, how many came since, the last of them.
        self._repeats: dict[tuple[Any, str], tuple[float, int, Mapping[str, Any]]] = {}
        #: What was not told one by one, and when that was last said.
        self._more: Counter[str] = Counter()
        self._more_said_at = -REPEAT_S

    def tell(
        self,
        lines: Iterable[Mapping[str, Any]],
        gpus: Mapping[int, Mapping[str, Any]],
        now: float,
        time_ns: int,
    ) -> list[Event]:
        """Return events for the lines of a sample, and for repetitions whose time is over.

        gpus: what is known of each, by index.
        """
        events = []
        for line in lines:
            self._more.update(line.get("more_events") or {})
            for told in line["events"]:
                what = _what(told)
                key = (told["index"], what)
                if key in self._repeats:
                    since, count, _ = self._repeats[key]
                    self._repeats[key] = (since, count + 1, told)
                elif len(self._repeats) >= REPEATS_MAX:
                    self._more[what] += 1
                else:
                    self._repeats[key] = (now, 0, told)
                    event = _happened(told, gpus, time_ns)
                    events += [event] if event else []
        events += self._summaries(gpus, now, time_ns)
        if self._more and now - self._more_said_at >= REPEAT_S:
            events.append(_rest(self._more, time_ns))
            self._more, self._more_said_at = Counter(), now
        return events

    def _summaries(self, gpus: Mapping[int, Mapping[str, Any]], now: float, time_ns: int) -> list[Event]:
        events = []
        for key, (since, count, told) in list(self._repeats.items()):
            if now - since < REPEAT_S:
                continue
            del self._repeats[key]
            event = _happened(told, gpus, time_ns) if count else None
            if event:
                title = f"{event.title} ({count} more within {now - since:.0f} s)"
                events.append(event._replace(title=title, facts={**event.facts, "count": count}))
                # It goes on: the next ones count for the next minute.
                self._repeats[key] = (now, 0, told)
        return events


def _rest(more: Counter[str], time_ns: int) -> Event:
    listed = ", ".join(f"{what} ({count})" for what, count in more.most_common(10))
    text = f"Beyond those told one by one: {listed}. The kernel's log has them all."
    return Event(time_ns, f"{more.total()} more Xids and events of GPUs", text, "warn", {"more": dict(more)})


def _what(told: Mapping[str, Any]) -> str:
    return f"Xid {told['data']}" if told["kind"] == "xid" else str(told["kind"])


def _happened(told: Mapping[str, Any], gpus: Mapping[int, Mapping[str, Any]], time_ns: int) -> Event | None:
    gpu: Mapping[str, Any] = gpus.get(told["index"], {"index": told["index"]})
    facts = {name: told[name] for name in ("gi", "ci") if name in told}
    if told["kind"] == "xid":
        xid = look_up(told["data"])
        title = f"Xid {told['data']}: {xid.meaning}"
        return _event(gpu, time_ns, xid.level, title, xid.advice, {"xid": told["data"], **facts})
    if told["kind"] == "recovery action":
        # Its number, which is read at once, makes the event.
        return None
    level, meaning = _KINDS.get(told["kind"], ("warn", f"the driver tells of {told['kind']}"))
    return _event(gpu, time_ns, level, meaning, "", {"event": told["kind"], **facts})


def _event(
    gpu: Mapping[str, Any], time_ns: int, level: str, title: str, text: str, facts: Mapping[str, Any]
) -> Event:
    index, uuid = gpu.get("index"), gpu.get("uuid")
    name = "An unknown GPU" if index is None else f"GPU {index}"
    about = " ".join(str(each) for each in (gpu.get("name"), uuid) if each)
    whole = " ".join(part for part in (text, f"({about})" if about else "") if part)
    return Event(time_ns, f"{name}: {title}", whole, level, {"gpu": uuid, "index": index, **facts})
