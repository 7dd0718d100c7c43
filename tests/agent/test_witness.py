"""The witness by itself: what it waits for, what it gives up, and that somebody always gets a word."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import structlog

from tests.agent.conftest import eventually
from tests.support.blind_scene import BlindScene
from tracker_agent.clock import Clock
from tracker_agent.disk import Disk
from tracker_agent.evidence import Findings
from tracker_agent.exit_status import ExitStatus
from tracker_agent.scene import Baseline
from tracker_agent.spool_thread import SpoolThread
from tracker_agent.witness import Witness
from tracker_agent.witness_memory import WitnessMemory

KILLED = ExitStatus(None, 9, False, "pidfd")


def stream_of(number: int = 1, pid: int = 7) -> Any:
    header = SimpleNamespace(clock=0)
    return SimpleNamespace(
        key=(1000, bytes([number]) * 16),
        entry=SimpleNamespace(holder=pid),
        header=header,
        own=False,
        exited=False,
    )


@contextmanager
def watching(
    scene: BlindScene, state: Path, told: Callable[[Any], None] = lambda _: None
) -> Iterator[Witness]:
    memory = WitnessMemory(str(state), "boot", Disk())
    witness = Witness(lambda: scene, SpoolThread, memory, Clock(), structlog.get_logger(), told)
    task = asyncio.ensure_future(witness.run())
    try:
        yield witness
    finally:
        task.cancel()


async def test_a_status_is_waited_for_until_its_parent_has_reaped_it(tmp_path: Path) -> None:
    class Slow(BlindScene):
        asked = 0

        def status(self, baseline: Baseline) -> ExitStatus | None:
            self.asked += 1
            return KILLED if self.asked > 3 else None

    stream, told = stream_of(), []
    with watching(Slow(), tmp_path, told.append) as witness:
        witness.lives(stream)
        witness.died(stream)
        await eventually(lambda: told)

        testimony = witness.testimony(stream)

    assert testimony is not None
    assert testimony.findings.status == KILLED
    assert testimony.died_ns is not None


async def test_a_status_that_never_comes_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tracker_agent.witness.STATUS_WAIT_S", 0.1)
    stream, told = stream_of(), []
    with watching(BlindScene(), tmp_path, told.append) as witness:
        witness.lives(stream)
        witness.died(stream)

        await eventually(lambda: told)


async def test_who_told_its_end_itself_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tracker_agent.witness.STATUS_WAIT_S", 3600.0)
    stream, told = stream_of(), []
    stream.exited = True
    with watching(BlindScene(), tmp_path, told.append) as witness:
        witness.lives(stream)
        assert witness.testimony(stream) is None

        await eventually(lambda: told)


async def test_a_scene_that_fails_still_leaves_a_word(tmp_path: Path) -> None:
    class Failing(BlindScene):
        def depart(self, baseline: Baseline, status: ExitStatus | None) -> Findings:
            raise ValueError("odd")

    stream, told = stream_of(), []
    scene = Failing()
    scene.status = lambda _: KILLED  # type: ignore[method-assign]
    with watching(scene, tmp_path, told.append) as witness:
        witness.lives(stream)
        witness.died(stream)
        await eventually(lambda: told)
        testimony = witness.testimony(stream)

    assert testimony is not None
    assert "odd" in testimony.findings.missing[0]


async def test_of_too_many_deaths_at_once_the_rest_is_not_looked_into(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tracker_agent.witness.WAITING_MAX", 2)
    told: list[Any] = []
    streams = [stream_of(number, pid=number) for number in range(1, 6)]
    with watching(BlindScene(), tmp_path, told.append) as witness:
        for stream in streams:
            witness.lives(stream)
        for stream in streams:
            witness.died(stream)

        assert len(told) == 3
        assert witness.status()["unlooked"] == 3 + 3
        assert "too many" in witness.testimony(streams[-1]).findings.missing[0]  # type: ignore[union-attr]


async def test_a_writer_that_is_forgotten_is_let_go(tmp_path: Path) -> None:
    class Counting(BlindScene):
        let_go = 0

        def forget(self, baseline: Baseline) -> None:
            self.let_go += 1

    scene = Counting()
    stream = stream_of()
    with watching(scene, tmp_path) as witness:
        witness.lives(stream)
        await eventually(lambda: (tmp_path / "evidence.json").exists())

        witness.forget(stream)

        await eventually(lambda: scene.let_go == 1)
        await eventually(lambda: stream.key[1].hex() not in (tmp_path / "evidence.json").read_text())
