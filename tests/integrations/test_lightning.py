"""Lightning's WandbLogger, compared with Lightning's own CSVLogger beside it."""

from __future__ import annotations

import hashlib

from tests.integrations.training import Train

STEP = "trainer/global_step"


def test_logger_stores_what_lightning_writes_into_its_own_table_and_every_checkpoint(train: Train) -> None:
    told, run, _ = train("lightning_trainer")

    assert run.page["name"] == told["name"] == "line"
    assert run.page["tags"] == ["tiny"]
    names = {name for row in told["rows"] for name in row} - {"step"}
    assert {"train/loss_step", "train/loss_epoch", "val/loss", "epoch"} <= names
    for name in names:
        expected = {row["step"]: row[name] for row in told["rows"] if name in row}
        assert run.values_by(STEP, name) == expected, name
    for name, value in told["callback_metrics"].items():
        if name in run.metrics:
            assert run.summary[name] == value, name
    assert run.summary["best"] == told["best"]
    for name, value in told["hyperparameters"].items():
        assert run.config[name] == value, name
    assert run.page["state"] == "finished"
    kept = run.artifact_files(f"model-{told['run']}", "model.ckpt")
    assert sorted(hashlib.sha256(data).hexdigest() for data in kept) == sorted(told["checkpoints"])
    assert run.columns("guesses") == {"input": ["a", "b"], "output": [1.5, 2.5]}
    assert {value["type"] for value in run.rich("parameters/layer.weight")} == {"histogram"}


def test_logger_goes_on_in_a_spawned_process(train: Train) -> None:
    told, run, _ = train("lightning_spawned")

    assert told["code"] == 0
    assert told["there"] == [told["run"], "spawned"]
    assert sorted(run.values_by(STEP, "loss").items()) == [(0, 1.0), (1, 2.0)]
