"""Which GPUs a process was given, by what its environment said."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracker_server.visible_gpus import Gpu, Visible, visible_gpus

FIRST, SECOND, THIRD, FOURTH = UUIDS = [
    "GPU-5fd4f087-86f3-7a43-b711-4771313afc50",
    "GPU-5fd4aaaa-86f3-7a43-b711-4771313afc51",
    "GPU-7bc10000-86f3-7a43-b711-4771313afc52",
    "GPU-9e000000-86f3-7a43-b711-4771313afc53",
]
PARTS = ["MIG-c7384736-a75d-5afc-978f-d2f1294409fd", "MIG-a28ad590-3fda-56dd-84fc-0a0b96edc58d"]
FOUR: list[Any] = [
    {"index": index, "uuid": uuid, "name": "NVIDIA H100 80GB HBM3"} for index, uuid in enumerate(UUIDS)
]
MIXED = [*FOUR[:3], FOUR[3] | {"name": "NVIDIA T4"}]
SPLIT = [
    FOUR[0],
    FOUR[1]
    | {
        "mig_devices": [
            {"index": 0, "uuid": PARTS[0], "gi": 7, "ci": 0},
            {"index": 1, "uuid": PARTS[1], "gi": 9, "ci": 1},
        ]
    },
]
AMD = [{"index": index, "uuid": f"GPU-a{index}", "name": "MI300X", "vendor": "amd"} for index in (0, 1)]


def indexes(inventory: list[Any], **variables: str) -> tuple[list[int], bool] | None:
    """Return the indexes seen and whether that is certain, by the first words of the variables' names."""
    seen = visible_gpus({f"{name}_VISIBLE_DEVICES": text for name, text in variables.items()}, inventory)
    return None if seen is None else ([gpu.index for gpu in seen.gpus], seen.certain)


@pytest.mark.parametrize(
    "variables",
    [{}, {"NVIDIA": "all"}, {"NVIDIA": ""}, {"NVIDIA": "void"}, {"NVIDIA": "0,all"}, {"ROCR": "0"}],
)
def test_an_environment_that_chooses_nothing_says_nothing(variables: dict[str, str]) -> None:
    assert indexes(FOUR, **variables) is None


@pytest.mark.parametrize("hidden", ["", "-1", "NoDevFiles", "-1,0"])
def test_a_process_may_have_been_given_no_gpu(hidden: str) -> None:
    assert indexes(FOUR, CUDA=hidden) == ([], True)


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        (f"{THIRD},{FIRST}", [2, 0]),
        (THIRD.upper(), [2]),
        ("GPU-7,GPU-9e", [2, 3]),
        (f"{FIRST}, {SECOND}", [0, 1]),
        (f"{FIRST},-1,{SECOND}", [0]),
    ],
)
def test_uuids_name_gpus_for_certain_also_by_their_beginning(text: str, seen: list[int]) -> None:
    assert indexes(FOUR, CUDA=text) == (seen, True)


@pytest.mark.parametrize("text", ["GPU-5fd4", "GPU-0", "GPU-", "gpu", "9", "0x1", "²", "GPU-7bc1.*"])
def test_what_names_no_gpu_or_several_ends_the_list_and_is_told(text: str) -> None:
    seen = visible_gpus({"CUDA_VISIBLE_DEVICES": f"{FOURTH},{text},{FIRST}"}, FOUR)

    assert seen == Visible((Gpu(3, FOURTH),), certain=False, unknown=(text,))


def test_bare_numbers_may_mean_other_gpus_unless_they_name_all() -> None:
    # Slurm hides the GPUs of other jobs and counts from 0.
    assert indexes(FOUR, CUDA="1,0") == ([1, 0], False)
    assert indexes(FOUR, CUDA="3,2,1,0") == ([3, 2, 1, 0], True)
    assert indexes(FOUR[:1], CUDA="0") == ([0], True)


def test_cuda_counts_gpus_that_differ_in_an_order_that_is_not_known() -> None:
    assert indexes([FOUR[0], MIXED[3]], CUDA="0") == ([0], False)
    assert indexes(MIXED, CUDA="0,1,2,3") == ([0, 1, 2, 3], False)


def test_a_container_counts_what_it_was_given() -> None:
    assert indexes(FOUR, NVIDIA="2,3") == ([2, 3], True)
    assert indexes(FOUR, NVIDIA=f"{FOURTH},{SECOND}", CUDA="1") == ([1], True)
    assert indexes(FOUR, NVIDIA="2,3", CUDA="0") == ([2], True)
    assert indexes(FOUR, NVIDIA="2,3", CUDA=THIRD) == ([2], True)
    assert indexes(MIXED, NVIDIA="2,3", CUDA="0") == ([2], False)
    assert indexes(FOUR, NVIDIA="all", CUDA=THIRD) == ([2], True)
    assert indexes(FOUR, NVIDIA="2", CUDA=FIRST) == ([], False)


def test_none_may_not_be_the_whole_truth_in_a_container() -> None:
    assert indexes(FOUR, NVIDIA="none") == ([], False)


def test_a_lost_gpu_does_not_shift_the_numbers_of_containers() -> None:
    assert indexes([FOUR[0], FOUR[2]], NVIDIA="2") == ([2], True)


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("CUDA", PARTS[1]),
        ("CUDA", "MIG-a28"),
        ("CUDA", f"MIG-{SECOND}/9/1"),
        ("NVIDIA", "1:1"),
        ("NVIDIA", PARTS[1]),
    ],
)
def test_mig_devices_are_named_by_uuid_by_instance_or_by_number(variable: str, text: str) -> None:
    seen = visible_gpus({f"{variable}_VISIBLE_DEVICES": text}, SPLIT)

    assert seen == Visible((Gpu(1, SECOND, PARTS[1]),), certain=True)


@pytest.mark.parametrize("text", [f"MIG-{SECOND}/9/0", f"MIG-{FIRST}/9/1", "1:2", "0:1", "MIG-ff"])
def test_a_mig_device_that_is_not_there_is_told(text: str) -> None:
    assert visible_gpus({"CUDA_VISIBLE_DEVICES": text}, SPLIT) == Visible((), False, (text,))


def test_numbers_say_little_where_a_gpu_is_split() -> None:
    assert indexes(SPLIT, CUDA="0,1") == ([0, 1], False)
    assert indexes(SPLIT[1:], CUDA="0") == ([1], False)


def test_a_container_with_a_part_of_a_gpu_counts_that_part() -> None:
    seen = visible_gpus({"NVIDIA_VISIBLE_DEVICES": "1:0", "CUDA_VISIBLE_DEVICES": "0"}, SPLIT)

    assert seen == Visible((Gpu(1, SECOND, PARTS[0]),), certain=True)


def test_gpus_of_amd_go_by_their_own_variable_and_by_cudas() -> None:
    assert indexes(AMD, ROCR="GPU-a1") == ([1], True)
    assert indexes(AMD, ROCR="GPU-a1,GPU-a0", CUDA="0") == ([1], True)
    assert indexes(AMD, CUDA="1") == ([1], False)
    assert indexes(AMD, NVIDIA="1") is None
    assert indexes([FOUR[0], AMD[1]], CUDA="0") == ([0], True)
    assert indexes([FOUR[0], AMD[1]], CUDA="", ROCR="GPU-a1") == ([1], True)


json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
facts = st.fixed_dictionaries({}, optional=dict.fromkeys(("index", "uuid", "name", "mig_devices"), json))
words = st.lists(
    st.sampled_from(["0", "1", "7", "-1", "0:1", "GPU-5", "MIG-c", f"MIG-{SECOND}/9/1", *UUIDS, *PARTS])
    | st.text(max_size=5),
    max_size=4,
).map(",".join)


@given(
    st.dictionaries(
        st.sampled_from([f"{name}_VISIBLE_DEVICES" for name in ("CUDA", "NVIDIA", "ROCR")]), words
    ),
    st.lists(facts | st.sampled_from([*FOUR, *SPLIT, *AMD]) | json, max_size=4) | json,
)
def test_whatever_agents_and_writers_say_only_gpus_of_the_inventory_come_out(
    variables: dict[str, str], inventory: Any
) -> None:
    seen = visible_gpus(variables, inventory)

    known = {
        gpu["index"]
        for gpu in (inventory if isinstance(inventory, list) else [])
        if isinstance(gpu, dict) and type(gpu.get("index")) is int
    }
    if seen is not None:
        assert {gpu.index for gpu in seen.gpus} <= known
        assert len(set(seen.gpus)) == len(seen.gpus)
        assert not (seen.certain and seen.unknown)
