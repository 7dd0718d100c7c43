"""Many processes, one run: torchrun's ranks, DataLoader's workers, a notebook's kernel."""

from __future__ import annotations

import pytest

from tests.integrations.stored import StoredRun
from tests.integrations.training import Services, Train

RANKS = 8


def writers(run: StoredRun) -> list[tuple[int | None, str]]:
    """Return (rank, state) of the writers that train."""
    streams = run.page["streams"]
    trains = [each for each in streams if each["role"] is None and each["parent"] is None]
    return sorted((each["rank"], each["state"]) for each in trains)


def test_eight_ranks_under_torchrun_write_one_run(train: Train) -> None:
    told, run, _ = train("torchrun_ranks", "well", "8", TRACKER_RUN_ID="ranks-well")

    for rank, losses in enumerate(told["losses"]):
        assert run.points(f"loss/{rank}") == dict(enumerate(losses))
    assert writers(run) == [(rank, "ended") for rank in range(RANKS)]
    assert (run.page["state"], run.page["exit_code"]) == ("finished", 0)
    assert run.config == {"ranks": RANKS}


def test_ranks_of_a_job_that_was_started_again_finish_their_run(train: Train) -> None:
    _, run, _ = train("torchrun_ranks", "fail", "3", TRACKER_RUN_ID="ranks-fail")

    found = writers(run)
    assert [rank for rank, _ in found] == [0, 0, 1, 1, 2, 2]
    assert [state for _, state in found].count("ended") >= 4
    assert (run.page["state"], run.page["cause"]) == ("finished", None)
    told = {each["rank"]: each["exception"]["message"] for each in run.page["streams"] if each["exception"]}
    assert told[1] == "rank 1 diverged"


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_of_a_dataloader_write_to_the_run(train: Train, method: str) -> None:
    told, run, _ = train("dataloader_workers", method, "well")

    assert run.points("sum") == dict(enumerate(told["sums"]))
    loaded = [run.points(f"loaded/{worker}") for worker in range(2)]
    assert sorted(index for points in loaded for index in points) == list(range(24))
    children = [each for each in run.page["streams"] if each["parent"] and each["role"] is None]
    [main] = [each for each in run.page["streams"] if not each["parent"]]
    assert [each["parent"] for each in children] == [main["stream"]] * 2
    assert run.page["state"] == "finished"


def test_a_worker_that_is_killed_is_a_fact_about_itself(train: Train) -> None:
    told, run, _ = train("dataloader_workers", "fork", "die")

    assert "DataLoader worker" in told["problem"]
    killed = [each for each in run.page["streams"] if each["state"] == "gone"]
    assert killed and all(each["parent"] for each in killed)
    assert 13 in {**run.points("loaded/0"), **run.points("loaded/1")}
    assert (run.page["state"], run.page["cause"]) == ("finished", None)


def test_a_notebook_writes_a_run_after_the_other(train: Train, services: Services) -> None:
    told, second, _ = train("notebook", TRACKER_CONSOLE="auto")
    first = StoredRun(*services, told["project"], told["first"])
    first.wait()

    assert told["printed"] == [
        "one\n",
        "",
        "step 0\nstep 1\nstep 2\n",
        "",
        "goes on\n",
        "",
        "b'a child\\n'\n",
        "end\n",
    ]
    assert [names for names in told["failed"] if names] == [["ValueError"]]
    assert first.points("loss") == {0: 0.0, 1: 0.5, 2: 1.0, 3: 9.0}
    assert first.points("after") == {4: 1.0}
    assert second.points("loss") == {0: 0.25}
    assert [run.page["state"] for run in (first, second)] == ["finished", "finished"]
