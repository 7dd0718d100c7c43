"""HostStore: the machines agents run on, their inventory and samples."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Host:
    """One machine. seen is when an agent there last spoke (ns)."""

    id: int
    points_id: int
    machine: str
    host: str
    agent: str
    seen: int
    inventory: dict[str, Any]
