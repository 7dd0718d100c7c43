"""inventory: what the machine is. No values: its facts go into the HOST record, again when they changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from .collector import Collector, Context, Reading


class InventoryCollector(Collector):
    """Facts that change with an upgrade, a plug or a reboot; read() may wait for a driver."""

    name = "inventory"
    cost = "some dozen files"
    interval_s = 300.0
    deadline_s = 60.0
    own_thread = True

    def __init__(self, read: Callable[[], Mapping[str, Any]], context: Context | None = None) -> None:
        super().__init__(context)
        self._read = read

    def sample(self) -> Reading:
        return Reading({}, inventory=self._read())
