"""Storm: lets faults happen, one of each domain at a time, until there were enough."""

from __future__ import annotations

import random
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable

from tests.chaos.arena import Arena
from tests.chaos.fault import Fault, NotNow, Scene, available

PAUSE_S = (0.05, 0.8)
KEEP_UP_S = 0.2


class Storm:
    """Every kind of a domain comes once before any comes again, in an order drawn from the seed."""

    def __init__(
        self,
        arena: Arena,
        seed: int,
        faults: int,
        every_kind: bool,
        say: Callable[[str], None],
        only: str = "",
    ) -> None:
        self.fired: Counter[str] = Counter()  #: of each kind; details are indented
        self.failures: list[str] = []  #: faults that could not be done or mended
        self._arena = arena
        self._seed = seed
        self._faults = faults
        self._every_kind = every_kind
        self._say = say
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._kinds = [each for each in available(arena.privileged) if only in each.name]

    @property
    def count(self) -> int:
        """Faults so far."""
        return sum(count for name, count in self.fired.items() if not name.startswith(" "))

    @property
    def not_fired(self) -> list[str]:
        """Kinds that never came."""
        return [each.name for each in self._kinds if not self.fired[each.name]]

    def rage(self, most_s: float) -> None:
        """Return when there were enough faults, and of every kind if asked for, or after most_s."""
        domains = sorted({each.domain for each in self._kinds})
        threads = [
            threading.Thread(target=self._domain, args=(domain,), name=f"faults of {domain}")
            for domain in domains
        ]
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + most_s
        while time.monotonic() < deadline and not self.failures:
            if self.count >= self._faults and not (self._every_kind and self.not_fired):
                break
            self._arena.keep_up()
            self._over.wait(KEEP_UP_S)
        self._over.set()
        for thread in threads:
            thread.join()

    def _domain(self, domain: str) -> None:
        numbers = random.Random(f"{self._seed} {domain}")
        kinds = [each for each in self._kinds if each.domain == domain]
        scene = Scene(self._arena, numbers, self._over, self.fired)
        while not self._over.is_set():
            deck = list(kinds)
            numbers.shuffle(deck)
            for kind in deck:
                if self._over.wait(numbers.uniform(*PAUSE_S)):
                    return
                self._do(kind, scene)

    def _do(self, kind: Fault, scene: Scene) -> None:
        began = time.monotonic()
        try:
            kind.act(scene)
        except NotNow:
            return
        except Exception:
            self.failures.append(f"{kind.name}: {traceback.format_exc()}")
            return
        with self._lock:
            self.fired[kind.name] += 1
        self._say(f"{self.count:4}  {kind.domain:9}{kind.name:32}{time.monotonic() - began:5.1f} s")
