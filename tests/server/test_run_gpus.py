"""Which GPUs a run has on a machine: seen before said, and nothing made up."""

from __future__ import annotations

from typing import Any

import pytest

from tracker_server.run_gpus import RunGpu, run_gpus, seen_gpus
from tracker_server.store.streams import Stream

INVENTORY = {"gpus": [{"index": index, "uuid": f"GPU-{index:04x}", "name": "H100"} for index in range(4)]}


def stream(ordinal: int, **gpus: str) -> Stream:
    return Stream(
        stream=f"{ordinal:032x}",
        ordinal=ordinal,
        uid=1000,
        user="ada",
        host="node",
        pid=1,
        rank=ordinal,
        parent=None,
        role=None,
        writer="test/1",
        state="live",
        exit_code=None,
        exception=None,
        observed=None,
        ending=None,
        machine="m",
        stop=False,
        gpus=gpus or None,
        next=0,
        gaps=[],
        lost=[],
        problems=[],
    )


def indexes(found: list[RunGpu] | None) -> list[tuple[int, list[int], bool]] | None:
    return None if found is None else [(gpu.index, gpu.streams, gpu.seen) for gpu in found]


def test_names_of_metrics_say_where_a_writer_was_seen() -> None:
    names = [
        "system.0.process.gpu.3.memory.bytes",
        "system.0.process.gpu.1.mig.2.memory.bytes",
        "system.12.process.gpu.0.utilization.percent",
        "system.1.process.cpu.percent",
        "system.1.process.gpu.x.memory.bytes",
        "system.2.process.gpu.99999999999.memory.bytes",
        "process.gpu.0.memory.bytes",
    ]

    assert seen_gpus(names) == {0: {1, 3}, 12: {0}}


def test_a_gpu_that_ranks_share_is_there_once_with_all_of_them() -> None:
    found = run_gpus([stream(0), stream(1)], {0: {1, 2}, 1: {2}}, INVENTORY)

    assert indexes(found) == [(1, [0], True), (2, [0, 1], True)]
    assert found is not None
    assert (found[0].uuid, found[0].name) == ("GPU-0001", "H100")


def test_what_was_seen_counts_more_than_what_the_environment_says() -> None:
    writers = [stream(0, CUDA_VISIBLE_DEVICES="0"), stream(1, CUDA_VISIBLE_DEVICES="3")]

    assert indexes(run_gpus(writers, {0: {2}}, INVENTORY)) == [(2, [0], True), (3, [1], False)]


def test_without_a_word_of_any_writer_it_is_not_known() -> None:
    assert run_gpus([stream(0), stream(1)], {}, INVENTORY) is None
    assert run_gpus([], {}, INVENTORY) is None
    assert run_gpus([stream(0, CUDA_VISIBLE_DEVICES="GPU-none")], {}, INVENTORY) is None


def test_a_run_that_was_given_none_has_none() -> None:
    assert run_gpus([stream(0, CUDA_VISIBLE_DEVICES="")], {}, INVENTORY) == []


def test_a_gpu_the_inventory_does_not_know_is_there_all_the_same() -> None:
    assert indexes(run_gpus([stream(0)], {0: {9}}, INVENTORY)) == [(9, [0], True)]


@pytest.mark.parametrize(
    "gpus",
    [None, 5, "text", {"index": 0}, [5, None, "x"], [{"index": [0]}, {"index": {}}, {"uuid": 5, "index": 0}]],
)
def test_any_inventory_is_survived(gpus: Any) -> None:
    found = run_gpus([stream(0), stream(1, CUDA_VISIBLE_DEVICES="0")], {0: {0}}, {"gpus": gpus})

    assert found is not None
    assert found[0].uuid is None
