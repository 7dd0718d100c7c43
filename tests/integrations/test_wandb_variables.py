"""WANDB_* variables, for libraries that import wandb and for scripts that say `import tracker as wandb`."""

from __future__ import annotations

import json

import pytest

from tests.integrations.training import Launch, Services, Train

ALL = {
    "WANDB_PROJECT": "of-variables",
    "WANDB_NAME": "named",
    "WANDB_NOTES": "noted",
    "WANDB_TAGS": "a,b",
    "WANDB_RUN_GROUP": "grouped",
    "WANDB_JOB_TYPE": "typed",
}
TOLD = {
    "project": "of-variables", "name": "named", "notes": "noted", "tags": ["a", "b"], "group": "grouped",
    "job_type": "typed",
}  # fmt: skip


@pytest.mark.parametrize("imported", ["wandb", "tracker as wandb"])
def test_variables_say_what_a_run_is(imported: str, train: Train) -> None:
    chosen = "chosen-" + imported.partition(" ")[0]

    told, run, _ = train("variables", imported, **ALL, WANDB_RUN_ID=chosen, WANDB_DIR="elsewhere")

    assert told["run"] == chosen
    assert {name: told[name] for name in TOLD} == TOLD
    assert {name: run.page[name] for name in TOLD if name != "project"} == {
        name: value for name, value in TOLD.items() if name != "project"
    }
    assert run.points("loss") == {0: 0.5}


def test_arguments_stand_before_variables_and_tracker_before_wandb(train: Train) -> None:
    told, _, _ = train(
        "variables", "wandb", json.dumps({"name": "given"}), **ALL, TRACKER_PROJECT="ours", WANDB_RUN_ID=""
    )

    assert (told["project"], told["name"], told["group"]) == ("ours", "given", "grouped")


def test_variables_of_wandb_mean_nothing_to_a_script_that_says_tracker(train: Train) -> None:
    told, _, _ = train("variables", "tracker", '{"project": "own", "name": "own"}', **ALL)

    assert (told["project"], told["name"], told["notes"], told["tags"]) == ("own", "own", None, [])


@pytest.mark.parametrize("mode", ["offline", "dryrun"])
def test_offline_run_is_kept_on_this_machine(mode: str, launch: Launch, services: Services) -> None:
    told, _ = launch("variables", "wandb", WANDB_MODE=mode, WANDB_RUN_ID=f"kept-{mode}")

    assert told["offline"]
    assert list(services[1].spool.rglob(f"kept-{mode}"))


def test_silent_run_says_nothing(launch: Launch) -> None:
    _, stderr = launch("variables", "wandb", WANDB_SILENT="true", WANDB_MODE="offline")

    assert stderr == ""
