"""What the pipeline takes from the machine it runs on: disk, threads, deaths of processes, hints, chance.

One object, so that the simulator (tests/model) hands in a machine of its own and everything above stays the
code that runs in production.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from .disk import Disk
from .liveness import Deaths
from .removal import Remover
from .scene import Scene
from .spool_thread import SpoolThread
from .watcher import Watcher


@dataclass(frozen=True)
class Machine:
    """The real one, unless told otherwise."""

    disk: Disk = field(default_factory=Disk)
    uid: int = field(default_factory=os.getuid)  #: whom the agent's own streams belong to
    thread: Callable[[str], SpoolThread] = SpoolThread  #: starts a thread for the files of one root
    in_thread: Callable[..., Awaitable[Any]] = asyncio.to_thread  #: runs what takes processor time
    deaths: Callable[[int, Callable[[int], None]], Deaths] = Deaths
    watcher: Callable[[Callable[[str], None]], Watcher] = Watcher
    remover: Callable[[Disk], Remover] = Remover  #: removes and measures run directories
    scene: Callable[[bool], Scene] = Scene  #: what can be seen of the ends of processes
    uniform: Callable[[float, float], float] = random.uniform  #: draws every random wait
