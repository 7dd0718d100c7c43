"""Scripts made for wandb in which only the import was changed: `import tracker as wandb`."""

from __future__ import annotations

import pytest

from tests.integrations.training import Train


def test_pytorch_script_is_stored_value_by_value(train: Train) -> None:
    told, run, _ = train("pytorch_script")

    losses, validations, norms = told["losses"], told["validations"], told["norms"]
    steps = [epoch * 5 + batch for epoch in range(4) for batch in range(4)]
    assert run.points("loss") == dict(zip(steps, losses, strict=True))
    assert run.points("grad/norm") == dict(zip(steps, norms, strict=True))
    assert run.values_by("epoch", "validation/loss") == dict(enumerate(validations))
    assert run.config == told["config"] == {"lr": 0.05, "epochs": 4}
    assert run.page["tags"] == ["script", "cpu"]
    assert run.page["notes"] == "a note"
    assert run.summary["loss"] == losses[-1]
    assert run.summary["final"] == losses[-1]
    assert run.summary["validation/loss"] == {"min": min(validations)}
    saved = bytes.fromhex(told["saved"])
    assert run.file("files/saved.pt") == saved
    assert len(run.file("files/written-there.pt")) == pytest.approx(len(saved), rel=0.5)
    [picture] = run.rich("picture")
    assert run.file(picture["data"]["path"]).startswith(b"\x89PNG")
    assert len(run.rich("weights")) == 4
    assert {value["type"] for value in run.rich("gradients/0.weight")} == {"histogram"}
    assert {value["type"] for value in run.rich("parameters/2.bias")} == {"histogram"}
    assert run.page["state"] == "finished"


def test_sklearn_script_is_stored_value_by_value(train: Train) -> None:
    told, run, _ = train("sklearn_script")

    assert run.points("loss") == dict(enumerate(told["losses"]))
    assert run.points("accuracy") == dict(enumerate(told["accuracies"]))
    assert run.page["job_type"] == "train"
    assert run.config == {"alpha": 0.001, "passes": 6, "coefficients": told["shape"]}
    assert run.summary["best"] == max(told["accuracies"])
    assert run.columns("confusion")["nPredictions"] == told["counts"]
    assert run.columns("predictions") == told["predictions"]
    assert {value["step"] for value in run.rich("confusion") + run.rich("predictions")} == {6}


def test_charts_of_wandb_sklearn_are_stored(train: Train) -> None:
    told, run, _ = train("sklearn_charts")

    assert told["recorded_accuracy"] == told["accuracy"]
    assert run.summary["r2_score"] == told["r2"]
    charts = (
        "learning_curve", "feature_importances", "confusion_matrix", "summary_metrics", "class_proportions",
        "roc", "precision_recall", "calibration_curve", "residuals", "elbow_curve", "silhouette",
    )  # fmt: skip
    assert [name for name in charts if not run.rich(name)] == []
    assert run.columns("confusion_matrix")["nPredictions"] == [n for row in told["counts"] for n in row]
    assert sorted(run.columns("feature_importances")["importances"]) == sorted(told["importances"])
    assert run.columns("residuals")["residual"] == told["residuals"]
    assert run.columns("class_proportions")["count"][:2] == told["classes"]
    assert (
        dict(zip(*run.columns("summary_metrics", 0).values(), strict=True))["accuracy_score"]
        == told["accuracy"]
    )


def test_config_takes_what_absl_omegaconf_and_dataclasses_hold(train: Train) -> None:
    _, run, _ = train("configs")

    assert run.config["absl_rate"] == 0.25
    assert run.config["absl_list"] == ["a", "b"]
    assert run.config["model"] == {"depth": 3, "width": 3}
    assert run.config["seed"] == 7
    assert run.config["optimizer"] == {"name": "sgd", "betas": [0.9, 0.99]}


def test_jax_script(train: Train) -> None:
    told, run, _ = train("jax_script")

    for name, values in told["told"].items():
        assert run.points(name) == dict(enumerate(values)), name
    assert run.points("steps") == dict(enumerate(range(5)))
    assert run.config == {"rate": 0.25, "steps": 5}
    assert run.summary["weights"] == told["weights"]
    [large] = run.rich("large")
    assert large["type"] == "histogram"
    assert sum(large["data"]["counts"]) == 1000
