"""What the fixtures here give to tests: trainings that ended, as the library and as the server tell."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from tests.integrations.stored import StoredRun
from tests.support.agent_process import AgentProcess
from tests.support.server_process import ServerProcess

Services = tuple[ServerProcess, AgentProcess]


class Ended(NamedTuple):
    """A training that ended, and what it reported."""

    report: dict[str, Any]
    stderr: str


class Trained(NamedTuple):
    """A training that ended: what the library itself reports, and the run as the server has it."""

    report: dict[str, Any]
    run: StoredRun
    stderr: str


Launch = Callable[..., Ended]
Train = Callable[..., Trained]
