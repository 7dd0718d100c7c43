"""nvidia: GPUs through NVML, asked in one child process (nvidia_child.py) with a deadline.

A hung driver costs the GPU values and nothing else. The child is killed when it does not answer, and a
new one is started only when the old one is gone: a process stuck in the driver survives SIGKILL, and a
second one would get stuck beside it.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..settings import CollectorSettings, setting
from .asked_child import ChildKeeper
from .collector import Collector, CollectorError, Context, NothingHere, Reading
from .gpu_processes import GpuProcess
from .nvidia_health import Happenings, Health
from .nvidia_metrics import METRICS
from .nvidia_pci import PciGpus

#: Where persistence mode is off, the first call takes seconds for each GPU.
FIRST_DEADLINE_S = 60.0
DEADLINE_S = 5.0
#: How long a pause waits for an answer that is under way, before it ends the process all the same.
PAUSE_WAIT_S = 2.0

#: What of an answer is no fact about the GPU.
_NOT_FACTS = frozenset(("values", "problem", "lost", "processes", "mig"))
_COMMAND = (sys.executable, "-P", "-m", "tracker_agent.collectors.nvidia_child")


@dataclass(frozen=True)
class NvidiaSettings(CollectorSettings):
    """The section [collectors.nvidia]."""

    codecs: bool = setting(False, "also measure video encoders and decoders", reload=True)


class NvidiaCollector(Collector):
    """NVIDIA GPUs and their MIG devices: load, memory, power, links, errors, Xids, who uses them."""

    name = "nvidia"
    metrics = METRICS
    cost = "about 14 calls of NVML for each GPU, in a process of its own; counters of errors every 30 s"
    Settings = NvidiaSettings
    #: The first answer may take this long; later ones are given up much sooner.
    deadline_s = FIRST_DEADLINE_S + 10.0
    own_thread = True

    def __init__(
        self,
        context: Context | None = None,
        command: Sequence[str] = _COMMAND,
        deadline_s: float = DEADLINE_S,
        first_deadline_s: float = FIRST_DEADLINE_S,
        monotonic: Callable[[], float] | None = None,
    ) -> None:
        super().__init__(context)
        self._monotonic = monotonic = monotonic or self.context.monotonic
        #: Whoever holds it may start, ask and end the child.
        self._lock = threading.Lock()
        self._keeper = ChildKeeper(command, deadline_s, first_deadline_s, monotonic)
        self._pci = PciGpus(self.context.kernel, monotonic)
        self._health = Health()
        self._happenings = Happenings()
        #: Facts about each GPU, by index.
        self._gpus: dict[int, Mapping[str, Any]] = {}
        self._closed = False
        self.context.gpu_pause.hold(self._release)

    def sample(self) -> Reading:
        with self._lock:
            try:
                return self._sample()
            except Exception:
                self.context.gpu_processes.put((), ())
                raise

    def close(self) -> None:
        self.context.gpu_pause.drop(self._release)
        with self._lock:
            self._closed = True
            self._keeper.close()

    def _sample(self) -> Reading:
        asleep = self._stand_aside()
        child = self._keeper.start()
        settings = self.context.settings
        question = {
            "asleep": asleep,
            "codecs": isinstance(settings, NvidiaSettings) and settings.codecs,
            "reopen": self._pci.changed(),
        }
        try:
            answer = self._keeper.ask(child, question)
        except CollectorError as error:
            # What led to this is told now: it may be long until there is another good answer.
            events = self._happenings.tell(child.told, self._gpus, self._monotonic(), self.context.wall_ns())
            if not events:
                raise
            return Reading({}, (str(error),), events=tuple(events))
        if self._pci.note(answer["gpus"]):
            self._keeper.let_go()
        return self._reading(child.told, answer)

    def _stand_aside(self) -> list[int]:
        """Return the indexes of GPUs that sleep. Raise NothingHere, with the driver let go of, if none is
        to be asked now."""
        if self.context.gpu_pause.left_s() > 0:
            reason = f"paused until {self.context.gpu_pause.until()}"
        else:
            asleep = self._pci.asleep()
            if self._pci.all_asleep(asleep):
                reason = "all GPUs are switched off to save power; nothing here wakes them"
            elif self._pci.resting():
                reason = "the GPUs had nothing to do and are given a minute to fall asleep"
            else:
                return asleep
        self._keeper.let_go()
        raise NothingHere(reason)

    def _release(self) -> str:
        """Let go of the driver for a pause. Called from a thread of its own."""
        if not self._lock.acquire(timeout=PAUSE_WAIT_S):
            child = self._keeper.child
            if child is not None:
                child.interrupt()
            if not self._lock.acquire(timeout=PAUSE_WAIT_S):
                return "nvidia: the driver is being asked and does not answer"
        try:
            hindered = self._keeper.let_go()
            if hindered:
                return f"nvidia: {hindered}"
            # Whatever ailed before, after the pause it is tried at once.
            self._keeper.forgive()
            return ""
        finally:
            self._lock.release()

    def _reading(self, told: Sequence[Mapping[str, Any]], answer: Mapping[str, Any]) -> Reading:
        gpus = [self._remembered(gpu) for gpu in answer["gpus"]]
        values: dict[str, float] = {}
        rows: list[GpuProcess] = []
        facts = []
        for gpu in gpus:
            facts.append(_facts(gpu))
            _gather(gpu, f"host.gpu.{gpu['index']}", values, rows)
        self._gpus = {each["index"]: each for each in facts}
        self._keeper.had_devices = bool(facts)
        self.context.gpu_processes.put(rows, facts)
        time_ns = self.context.wall_ns()
        events = self._happenings.tell(told, self._gpus, self._monotonic(), time_ns)
        problems, changes = self._health.look(gpus, time_ns)
        inventory = {"gpus": facts, "gpu_driver": answer.get("driver"), "cuda": answer.get("cuda")}
        return Reading(values, tuple(problems), inventory, (*events, *changes))

    def _remembered(self, gpu: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return a GPU with the facts of before, where it is lost and can tell none."""
        if gpu.get("lost") and gpu.get("uuid") is None:
            return {**self._gpus.get(gpu["index"], {}), **gpu}
        return gpu


def _facts(gpu: Mapping[str, Any]) -> dict[str, Any]:
    facts = {name: fact for name, fact in gpu.items() if name not in _NOT_FACTS and fact is not None}
    if gpu["mig"]:
        facts["mig_devices"] = [_facts({**part, "mig": ()}) for part in gpu["mig"]]
    return facts


def _gather(gpu: Mapping[str, Any], prefix: str, values: dict[str, float], rows: list[GpuProcess]) -> None:
    """Add the values and processes of a GPU and its MIG devices."""
    index, uuid = gpu["index"], gpu.get("uuid") or ""
    values.update({f"{prefix}.{name}": float(value) for name, value in gpu["values"].items()})
    rows += [GpuProcess(p["pid"], uuid, index, p["memory_bytes"], p["sm_percent"]) for p in gpu["processes"]]
    for part in gpu["mig"]:
        number, part_uuid = part["index"], part.get("uuid") or ""
        values.update(
            {f"{prefix}.mig.{number}.{name}": float(value) for name, value in part["values"].items()}
        )
        rows += [
            GpuProcess(p["pid"], part_uuid, index, p["memory_bytes"], p["sm_percent"], number)
            for p in part["processes"]
        ]
