"""The callbacks of wandb.integration.keras in Keras' own fit()."""

from __future__ import annotations

import hashlib

from tests.integrations.training import Train


def digests(contents: list[bytes]) -> list[str]:
    return sorted(hashlib.sha256(content).hexdigest() for content in contents)


def test_callbacks_store_what_keras_says_in_its_history(train: Train) -> None:
    told, run, _ = train("keras_fit")

    assert {"loss", "mae", "val_loss", "val_mae"} <= set(told["history"])
    for name, values in told["history"].items():
        assert run.values_by("epoch/epoch", f"epoch/{name}") == dict(enumerate(values)), name
    rates = run.values_by("epoch/epoch", "epoch/learning_rate")
    assert rates == dict.fromkeys(range(4), told["rate"])
    batches = told["batches"]
    in_epoch = len(batches) // len(told["history"]["loss"])
    of_turn = [batch for number, batch in enumerate(batches) if number % in_epoch % 2 == 0]
    for name in ("loss", "mae"):
        expected = {2 * number: batch[name] for number, batch in enumerate(of_turn)}
        assert run.values_by("batch/batch_step", f"batch/{name}") == expected
    assert run.config == {"units": 3}
    assert run.summary["epoch/val_loss"] == told["history"]["val_loss"][-1]
    artifact = f"run_{told['run']}_model"
    kept = [
        data for epoch in range(1, 5) for data in run.artifact_files(artifact, f"model-{epoch:02d}.keras")
    ]
    assert digests(kept) == sorted(told["checkpoints"])
    best = digests(run.artifact_files(artifact, "best.weights.h5"))
    losses = told["history"]["val_loss"]
    improvements = [loss for number, loss in enumerate(losses) if loss == min(losses[: number + 1])]
    assert len(best) == len(improvements)
    assert told["best"] in best


def test_older_callback_keeps_the_best_value_and_model(train: Train) -> None:
    told, run, stderr = train("keras_everything")

    losses = told["history"]["val_loss"]
    best = min(losses)
    assert best != losses[-1], "the training was made to get worse"
    assert run.values_by("epoch", "val_loss") == dict(enumerate(losses))
    assert run.summary["best_val_loss"] == best
    assert run.summary["best_epoch"] == losses.index(best)
    assert run.file("files/model-best.keras").startswith(b"PK")
    assert len(run.rich("parameters/only.0")) == len(losses)
    assert "log_graph has no effect" in stderr
